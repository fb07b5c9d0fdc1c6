"""How a shifted version is doing: one look, for the sensor in its worker and for its trigger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol, runtime_checkable

from mlretrain import wire
from mlretrain.errors import ContractError
from mlretrain.gates.canary import Guard, Sighting, judge_canary
from mlretrain.gates.predictions import PredictionLog, PredictionShift
from mlretrain.ports import ServingTarget, VersionStats


@runtime_checkable
class Flushing(Protocol):
    """A target that can be told to put what was answered into the prediction log."""

    def flush(self, model: str) -> None:
        """Returns when all of it is where it can be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What to watch, and until when.

    :param model: the registered model's name.
    :param version: the version that got traffic, or copies.
    :param since: when it did.
    :param champion: whom it is compared with; ``None`` while there is none.
    :param mirrored: whether it gets copies and its answers go nowhere.
    :param bake_s: how long it has to hold up.
    :param patience_s: how long after ``since`` to wait for enough requests; then the verdict is ``hold``.
    :param min_requests: fewer than these decide nothing.
    :param guards: its limits.
    """

    model: str
    version: str
    since: datetime
    champion: str | None = None
    mirrored: bool = False
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
            champion=shift.get("champion"),
            mirrored=str(shift["version"]) in (shift.get("mirrored") or {}),
            guards=tuple(wire.from_wire(Guard, dict(guard)) for guard in guards),
            **limits,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What one look found. ``done``: looking longer changes nothing, or nothing that we wait for."""

    verdict: str
    reason: str
    seen: Sighting = field(default_factory=Sighting)
    done: bool = False

    def result(self) -> dict[str, Any]:
        """``{verdict, reason, stats, champion, shift}``, the sensor's XCom."""
        return {
            "verdict": self.verdict,
            "reason": self.reason,
            "stats": wire.to_wire(self.seen.stats),
            "champion": wire.to_wire(self.seen.champion),
            "shift": wire.to_wire(self.seen.shift),
        }


def look(
    watch: Watch, target: ServingTarget, now: datetime, predictions: PredictionLog | None = None
) -> Health:
    """Judge the version by its guards; ``done`` on a breach, when it has baked, when patience ends.

    :param predictions: what was predicted, for guards that ask; without it they cannot be computed.
    """
    seen = sight(watch, target, predictions)
    judged = judge_canary(watch.guards, seen, min_requests=watch.min_requests)
    age_s = (now - watch.since).total_seconds()
    if judged.verdict == "roll_back":
        return Health(verdict="roll_back", reason=judged.reason, seen=seen, done=True)
    if judged.verdict == "hold" or seen.stats.requests < watch.min_requests:
        spent = age_s >= max(watch.patience_s, watch.bake_s)
        return Health(verdict="hold", reason=judged.reason, seen=seen, done=spent)
    if age_s < watch.bake_s:
        left = timedelta(seconds=round(watch.bake_s - age_s))
        return Health(verdict="hold", reason=f"healthy so far; {left} of its bake time left", seen=seen)
    return Health(verdict="advance", reason=judged.reason, seen=seen, done=True)


def sight(watch: Watch, target: ServingTarget, predictions: PredictionLog | None = None) -> Sighting:
    """What the version and the champion did since the shift, and how far apart their predictions are."""
    found = target.metrics(watch.model, watch.since)
    stats = found.get(watch.version, VersionStats())
    if watch.champion is None:
        return Sighting(stats=stats)
    champion = found.get(watch.champion, VersionStats())
    enough = min(stats.requests, champion.requests) >= max(1, watch.min_requests)
    asked = any(guard.metric == "prediction_shift" for guard in watch.guards)
    shift = _shift(watch, watch.champion, target, predictions) if predictions and asked and enough else None
    return Sighting(stats=stats, champion=champion, shift=shift)


def _shift(
    watch: Watch, champion: str, target: ServingTarget, predictions: PredictionLog
) -> PredictionShift | None:
    if isinstance(target, Flushing):
        target.flush(watch.model)
    return predictions.shift(watch.version, champion, watch.since, mirrored=watch.mirrored)
