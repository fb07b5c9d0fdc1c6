"""How a shifted version is doing: one look, for the sensor in its worker and for its trigger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from mlretrain import wire
from mlretrain.errors import ContractError
from mlretrain.gates.canary import Guard, judge_canary
from mlretrain.ports import ServingTarget, VersionStats


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What to watch, and until when.

    :param model: the registered model's name.
    :param version: the version that got traffic.
    :param since: when it did.
    :param bake_s: how long it has to hold up.
    :param patience_s: how long after ``since`` to wait for enough requests; then the verdict is ``hold``.
    :param min_requests: fewer than these decide nothing.
    :param guards: its limits.
    """

    model: str
    version: str
    since: datetime
    bake_s: float
    patience_s: float
    min_requests: int
    guards: tuple[Guard, ...] = ()

    @classmethod
    def of_shift(
        cls, shift: Mapping[str, Any], *, guards: Sequence[Mapping[str, Any]], **limits: Any
    ) -> Watch:
        """The watch over a shift that ``DeployModelOperator`` returned.

        Raises :class:`~mlretrain.errors.ContractError` if ``shift`` is something else.
        """
        missing = sorted({"model", "version", "since"} - set(shift))
        if missing:
            raise ContractError(
                "this is not a shift of traffic",
                where="shift",
                found=f"no {', '.join(missing)}",
                remedy="Pass what DeployModelOperator returned: shift=deploy.output",
            )
        return cls(
            model=str(shift["model"]),
            version=str(shift["version"]),
            since=wire.parse_time(str(shift["since"]), "shift.since"),
            guards=tuple(wire.from_wire(Guard, dict(guard)) for guard in guards),
            **limits,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What one look found. ``done``: looking longer changes nothing, or nothing that we wait for."""

    verdict: str
    reason: str
    stats: VersionStats = field(default_factory=VersionStats)
    done: bool = False

    def result(self) -> dict[str, Any]:
        """``{verdict, reason, stats}``, the sensor's XCom."""
        return {"verdict": self.verdict, "reason": self.reason, "stats": wire.to_wire(self.stats)}


def look(watch: Watch, target: ServingTarget, now: datetime) -> Health:
    """Judge the version by its guards; ``done`` on a breach, when it has baked, when patience ends."""
    stats = target.metrics(watch.model, watch.since).get(watch.version, VersionStats())
    judged = judge_canary(watch.guards, stats, min_requests=watch.min_requests)
    age_s = (now - watch.since).total_seconds()
    if judged.verdict == "roll_back":
        return Health(verdict="roll_back", reason=judged.reason, stats=stats, done=True)
    if judged.verdict == "hold" or stats.requests < watch.min_requests:
        spent = age_s >= max(watch.patience_s, watch.bake_s)
        return Health(verdict="hold", reason=judged.reason, stats=stats, done=spent)
    if age_s < watch.bake_s:
        left = timedelta(seconds=round(watch.bake_s - age_s))
        return Health(verdict="hold", reason=f"healthy so far; {left} of its bake time left", stats=stats)
    return Health(verdict="advance", reason=judged.reason, stats=stats, done=True)
