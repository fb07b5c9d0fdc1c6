"""Which signals make a window a violated one: any of some, or all of some."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mlretrain.errors import ConfigError
from mlretrain.policy.window import SIGNALS

WindowState = Literal["violated", "fine", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """A condition on a window's signals; on the wire ``{"any": [...]}`` or ``{"all": [...]}``.

    :param any: one of these is enough; what could not be measured is left out of account.
    :param all: it takes each of these; what could not be measured leaves it open, unless another is fine.
    """

    any: tuple[str, ...] = ()
    all: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.any) == bool(self.all):
            raise ConfigError(
                "the retrain policy cannot work",
                where="retrain.when",
                found="both any and all" if self.any else "neither any nor all",
                allowed="{any: [...]} or {all: [...]}",
            )
        check_signals(self.names, "retrain.when")

    @property
    def names(self) -> tuple[str, ...]:
        """The signals that are looked at."""
        return self.any or self.all

    @property
    def text(self) -> str:
        """The condition in words: ``drift or performance``."""
        return (" or " if self.any else " and ").join(self.names)

    def state(self, signals: Mapping[str, bool | None]) -> WindowState:
        """What the signals of a window come to."""
        values = [signals.get(name) for name in self.names]
        if self.any:
            verdict = True if True in values else (False if False in values else None)
        else:
            verdict = False if False in values else (None if None in values else True)
        return {True: "violated", False: "fine", None: "unknown"}[verdict]  # type: ignore[return-value]


def check_signals(names: tuple[str, ...], where: str) -> None:
    """Raise :class:`ConfigError` if there is no such signal."""
    unknown = sorted(set(names) - set(SIGNALS))
    if unknown:
        raise ConfigError("no such signal", where=where, found=", ".join(unknown), allowed=", ".join(SIGNALS))
