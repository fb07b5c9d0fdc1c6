"""Traffic: shift some to a candidate, judge it by the guards, take it back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from mlretrain import wire
from mlretrain.errors import ConfigError, InvalidInput, NotFound, TransientError
from mlretrain.gates.canary import Guard, judge_canary
from mlretrain.ports import CHAMPION, ServingTarget, VersionStats
from mlretrain_provider.hooks.model_server import ModelServerHook
from mlretrain_provider.links import ModelVersionLink
from mlretrain_provider.operators.pipeline import ACT, DECIDE, PipelineOperator, Upstream
from mlretrain_provider.operators.registry import drop_challenger, promotion_path, version_number
from mlretrain_provider.run import RunIdentity

if TYPE_CHECKING:
    from airflow.sdk import Context

SERVING = "mlretrain_model_server_default"


class DeployModelOperator(PipelineOperator):
    """Give a version a share of the traffic and leave the rest to the champion.

    Returns ``{model, version, champion, weights, since}``; ``champion`` is ``None`` while there is none, and
    then the version takes everything. Idempotent: the same share again changes nothing and keeps ``since``;
    once the run has ended, nothing is touched.

    :param version: what :class:`RegisterModelOperator` returned, or a version number.
    :param weight: the version's share, in percent.
    :param serving_conn_id: the model server's connection.
    """

    template_fields = (*PipelineOperator.template_fields, "version", "weight", "serving_conn_id")
    operator_extra_links = (ModelVersionLink(),)
    ui_color = ACT

    def __init__(
        self,
        *,
        version: Upstream,
        weight: int | str = 100,
        serving_conn_id: str = SERVING,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.version = version
        self.weight = weight
        self.serving_conn_id = serving_conn_id

    def perform(self, run: RunIdentity, context: Context) -> dict[str, Any]:
        version, weight = version_number(self.version), _percent(self.weight)
        end = self.settled(run)
        if end is not None:
            return {
                "model": self.pipeline,
                "version": version,
                "champion": end.previous,
                "weights": {},
                "since": wire.to_wire(end.at),
            }
        found = self.registry.version(self.pipeline, f"@{CHAMPION}")
        champion = found.version if found is not None and found.version != version else None
        weights = {champion: 100 - weight, version: weight} if champion else {version: 100}
        weights = {each: share for each, share in weights.items() if share}
        self.once(_rollout_path(self, run), lambda: {"version": version, "champion": champion})
        ModelServerHook(self.serving_conn_id).target().apply(self.pipeline, weights)
        # The traffic first: a record without its shift would never be mended, a shift without its record is.
        shift = self.append(
            run,
            "shifted",
            version=version,
            previous=champion,
            outcome=str(weight),
            evidence={"weights": weights},
        )
        self.log.info("Traffic of %s by version, in percent: %s", self.pipeline, weights)
        return {
            "model": self.pipeline,
            "version": version,
            "champion": champion,
            "weights": weights,
            "since": wire.to_wire(shift.at),
        }


def _percent(weight: int | str) -> int:
    try:
        share = int(weight)
    except ValueError:
        share = -1
    if not 0 <= share <= 100:
        raise ConfigError("not a share of the traffic", found=repr(weight), allowed="0 to 100")
    return share


class CanaryGateOperator(PipelineOperator):
    """Judge what a version did with its share of the traffic.

    Returns ``{verdict, reason, version, checks}``, the verdict being ``advance``; ``roll_back`` fails the
    task for good with the reason, ``hold`` (too few requests yet) fails it so that a retry may see more.
    While there is no champion to hold for, ``hold`` advances. Idempotent: it changes nothing; once the run
    has ended, it returns how.

    :param shift: what :class:`DeployModelOperator` returned.
    :param guards: each ``{metric: error_rate|latency_p50_ms|latency_p95_ms|latency_p99_ms, max}``.
    :param min_requests: fewer than these decide nothing.
    :param serving_conn_id: the model server's connection.
    """

    template_fields = (
        *PipelineOperator.template_fields,
        "shift",
        "guards",
        "min_requests",
        "serving_conn_id",
    )
    ui_color = DECIDE

    def __init__(
        self,
        *,
        shift: Upstream,
        guards: Sequence[Mapping[str, Any]] = (),
        min_requests: int = 100,
        serving_conn_id: str = SERVING,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.shift = shift
        self.guards = guards
        self.min_requests = min_requests
        self.serving_conn_id = serving_conn_id

    def perform(self, run: RunIdentity, context: Context) -> dict[str, Any]:
        version = version_number(self.shift)
        end = self.settled(run)
        if end is not None:
            return {"verdict": "advance", "reason": end.reason, "version": version, "checks": []}
        target: ServingTarget = ModelServerHook(self.serving_conn_id).target()
        stats = target.metrics(self.pipeline, datetime.fromisoformat(self.shift["since"]))
        verdict = judge_canary(
            tuple(wire.from_wire(Guard, dict(guard)) for guard in self.guards),
            stats.get(version, VersionStats()),
            min_requests=int(self.min_requests),
        )
        self.log.info("%s", verdict.reason)
        for check in verdict.checks:
            self.log.info("%s", check)
        if verdict.verdict == "roll_back":
            # Kept for whoever takes the traffic back: a task that fails leaves no XCom.
            self.once(_breach_path(self, run), lambda: {"reason": verdict.reason})
            raise AirflowFailException(f"version {version} must go: {verdict.reason}")
        if verdict.verdict == "hold" and self.shift.get("champion"):
            raise TransientError(
                verdict.reason,
                where=f"version {version}",
                remedy="Wait longer before this task (bake), or lower min_requests.",
            )
        return {
            "verdict": "advance",
            "reason": verdict.reason,
            "version": version,
            "checks": wire.to_wire(verdict.checks),
        }


def _rollout_path(operator: PipelineOperator, run: RunIdentity) -> str:
    """Where a run says, before it does, that it shifts traffic."""
    return f"{operator.folder(run, 'rollout')}/started.json"


def _breach_path(operator: PipelineOperator, run: RunIdentity) -> str:
    """Where a run keeps which guard was breached."""
    return f"{operator.folder(run, 'rollout')}/breach.json"


class RollBackModelOperator(PipelineOperator):
    """Take a candidate out of the traffic, or move back to an earlier version.

    Returns ``{name, version, previous, reason}``: what serves now, and what it takes over from. Idempotent:
    where it goes is decided once per run, every act is repeated harmlessly until the ledger says
    ``rolled_back``; after that, and in a run that has ended, nothing is touched.

    :param to: ``champion``: end this run's rollout, if it began: the champion takes all traffic, and gets its
        alias back if this run had moved it (without a champion the traffic stays: nothing else could answer);
        ``previous``, or empty: make the version that was champion before the current one champion again; or
        a version number.
    :param reason: why, in a sentence; required to move the champion. A breached guard speaks for itself.
    :param serving_conn_id: the model server's connection; none: nothing is served.
    """

    template_fields = (*PipelineOperator.template_fields, "to", "reason", "serving_conn_id")
    operator_extra_links = (ModelVersionLink(),)
    ui_color = ACT

    def __init__(
        self,
        *,
        to: str = "champion",
        reason: str | None = None,
        serving_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.to = to
        self.reason = reason
        self.serving_conn_id = serving_conn_id

    def perform(self, run: RunIdentity, context: Context) -> dict[str, Any]:
        end = self.settled(run)
        if end is not None:
            return self._result(end.version, end.previous, end.reason)
        path = f"{self.folder(run, 'roll_back')}/decision.json"
        decision = self.once(path, lambda: self._decide(run))
        version, previous, reason = decision["version"], decision["previous"], decision["reason"]
        if decision["moves_champion"]:
            self.registry.set_alias(self.pipeline, CHAMPION, version)
        if self.serving_conn_id and version:
            ModelServerHook(self.serving_conn_id).target().apply(self.pipeline, {version: 100})
        elif self.serving_conn_id:
            self.log.warning("There is no champion to fall back on; the traffic is left as it is.")
        drop_challenger(self, previous)
        if previous:
            self.registry.tag(self.pipeline, previous, {"mlretrain.outcome": "rolled_back"})
        self.append(
            run, "rolled_back", version=version, previous=previous, outcome="rolled_back", reason=reason
        )
        self.log.info("Version %s serves in place of %s: %s", version or "none", previous or "none", reason)
        return self._result(version, previous, reason)

    def _result(self, version: str | None, previous: str | None, reason: str | None) -> dict[str, Any]:
        return {"name": self.pipeline, "version": version, "previous": previous, "reason": reason}

    def _decide(self, run: RunIdentity) -> dict[str, Any]:
        champion = self.registry.version(self.pipeline, f"@{CHAMPION}")
        current = champion.version if champion else None
        if self.to == CHAMPION:
            return self._end_rollout(run, current)
        if not (self.reason or "").strip():
            raise ConfigError(
                "a roll-back needs a reason",
                where=f"{run.dag_id}/{self.task_id}",
                remedy="Say in a sentence why the champion is moved.",
            )
        version = self._before(current) if self.to in ("", "previous", "None") else str(self.to)
        if self.registry.version(self.pipeline, version) is None:
            raise NotFound(
                "no such version to roll back to",
                where=self.pipeline,
                found=repr(version),
                remedy=f"Look at the versions of the registered model {self.pipeline!r} in MLflow.",
            )
        return {
            "version": version,
            "previous": None if current == version else current,
            "reason": self.reason,
            "moves_champion": current != version,
        }

    def _end_rollout(self, run: RunIdentity, current: str | None) -> dict[str, Any]:
        registered = self.recorded(run, "registered")
        candidate = registered.version if registered else None
        promotion = self.recall(promotion_path(self, run))
        if promotion is None and self.recall(_rollout_path(self, run)) is None:
            # one_failed counts tasks that could not run, so this one runs after a failed training too.
            raise AirflowSkipException("This run has moved neither traffic nor the champion.")
        crowned = promotion is not None and candidate is not None and current == candidate
        version = promotion["previous"] if promotion is not None and crowned else current
        breach = self.recall(_breach_path(self, run)) or {}
        return {
            "version": version,
            "previous": candidate,
            "reason": breach.get("reason") or self.reason or "the rollout failed",
            "moves_champion": crowned,
        }

    def _before(self, current: str | None) -> str:
        """The champion before ``current``, by its promotion: going back twice goes back two champions."""
        found = [event.previous for event in self.ledger.events("promoted") if event.version == current]
        if not found or found[-1] is None:
            raise InvalidInput(
                "the ledger knows no champion before the current one",
                where=self.pipeline,
                found=f"version {current}",
                remedy="Say which version to roll back to.",
            )
        return str(found[-1])
