"""What is in force for a pipeline: the champion, those before it, the traffic, and whose rollout is open."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from mlretrain.ports import Traffic

KEPT = 50
"""Champions that are remembered for going back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the ledger says is in force; registry and serving target follow it.

    :param line: the champions, oldest first, the present one last. Going back takes the last one off.
    :param traffic: who is to answer requests; its generation is the number of the link that said so,
        or a larger one where a target knew of more than the ledger.
    :param rollout: the run that is moving traffic; ``None`` while none does.
    """

    line: tuple[str, ...] = ()
    traffic: Traffic = field(default_factory=Traffic)
    rollout: str | None = None

    @property
    def champion(self) -> str | None:
        """The version that is champion."""
        return self.line[-1] if self.line else None

    @property
    def before(self) -> str | None:
        """The champion before the present one."""
        return self.line[-2] if len(self.line) > 1 else None

    def after(
        self, kind: str, *, run: str, version: str | None, traffic: Traffic | None, sequence: int
    ) -> Standing:
        """What is in force after an event.

        :param run: the run's path segment.
        :param traffic: who is to answer from then on; ``None``: as before. One that has a generation is
            ordered anew, at least as that generation.
        """
        closed = None if self.rollout == run else self.rollout
        standing = replace(self, traffic=self._ordered(traffic, sequence))
        match kind:
            case "shifted":
                return replace(standing, rollout=run)
            case "promoted" if version is not None:
                return replace(standing, line=_promoted(self.line, version), rollout=closed)
            case "rolled_back":
                return replace(standing, line=_back_to(self.line, version), rollout=closed)
            case "withdrawn" | "concluded":
                return replace(standing, rollout=closed)
            case _:
                return standing

    def _ordered(self, traffic: Traffic | None, sequence: int) -> Traffic:
        """The traffic in force after an order; a generation is never given twice, nor one from before."""
        if traffic is None or (traffic.same(self.traffic) and not traffic.generation):
            return self.traffic
        return replace(traffic, generation=max(sequence, traffic.generation, self.traffic.generation + 1))


def _promoted(line: tuple[str, ...], version: str) -> tuple[str, ...]:
    return line if line[-1:] == (version,) else (*line, version)[-KEPT:]


def _back_to(line: tuple[str, ...], version: str | None) -> tuple[str, ...]:
    """The line up to ``version``; one that never was champion takes the present one's place."""
    if version is None or line[-1:] == (version,):
        return line
    earlier = line[:-1]
    if version in earlier:
        return earlier[: len(earlier) - earlier[::-1].index(version)]
    return (*earlier, version)
