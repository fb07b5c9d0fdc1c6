"""What an endpoint remembers of its orders, in tags, as SageMaker has no place for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mlretrain.ports import Traffic

OWNER_TAG = "mlretrain:model"
ORDER_TAG = "mlretrain:order"
IN_FORCE_TAG = "mlretrain:in-force"


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What later orders are measured by.

    :param last: the last order that had a generation. It is written down before it is carried out.
    :param in_force: the generation of what is served, 0 for a person's order. Written down afterwards.
    """

    last: Traffic | None = None
    in_force: int = 0

    @classmethod
    def of(cls, tags: Mapping[str, str]) -> Memory:
        """What the tags of an endpoint, or of a configuration without one, say."""
        order = tags.get(ORDER_TAG)
        return cls(last=_read(order) if order else None, in_force=int(tags.get(IN_FORCE_TAG) or 0))

    @property
    def generation(self) -> int:
        """Of the last order."""
        return self.last.generation if self.last else 0

    @property
    def tags(self) -> dict[str, str]:
        """The same as tags."""
        return {
            IN_FORCE_TAG: str(self.in_force),
            **({ORDER_TAG: _written(self.last)} if self.last else {}),
        }


def _written(order: Traffic) -> str:
    """``5 7=90 8=10``, or ``5 7=100 +8=20`` with a mirrored one: in the characters that tags may have."""
    weights = [f"{version}={weight}" for version, weight in order.weights.items()]
    mirrored = [f"+{version}={share}" for version, share in order.mirrored.items()]
    return " ".join([str(order.generation), *weights, *mirrored])


def _read(text: str) -> Traffic:
    generation, *shares = text.split()
    pairs = [each.partition("=") for each in shares]
    return Traffic(
        weights={version: int(share) for version, _, share in pairs if not version.startswith("+")},
        mirrored={version[1:]: int(share) for version, _, share in pairs if version.startswith("+")},
        generation=int(generation),
    )
