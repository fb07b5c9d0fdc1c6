"""Traffic: order some for a candidate, judge what it did with it, take it back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from mlretrain import wire
from mlretrain.errors import ConfigError, InvalidInput, TransientError
from mlretrain.gates.predictions import PredictionLog
from mlretrain.governance import Require
from mlretrain.ports import CHAMPION, Traffic
from mlretrain_provider.assets import emit_champion, may_change_champion
from mlretrain_provider.governance import check_traffic
from mlretrain_provider.health import Watch, look
from mlretrain_provider.links import ModelVersionLink
from mlretrain_provider.operators.pipeline import ACT, DECIDE, PipelineOperator, Upstream
from mlretrain_provider.operators.registry import version_number
from mlretrain_provider.run import RunIdentity

if TYPE_CHECKING:
    from airflow.sdk import Context

SERVE, MIRROR, STANDBY = "serve", "mirror", "standby"
ENDED: Mapping[str, Any] = {"weights": {}, "mirrored": {}}
"""The traffic of a shift that a run which has ended does not make."""


class DeployModelOperator(PipelineOperator):
    """Order traffic for a version and leave the rest to the champion.

    Returns ``{model, version, champion, weights, mirrored, since, strategy}``; ``champion`` is ``None`` while
    there is none, and then the version takes everything. Idempotent: the same order again changes nothing and
    keeps ``since``; once the run has ended, nothing is touched.

    :param version: what :class:`RegisterModelOperator` returned, or a version number.
    :param serving: where models are served, ``{target, conn_id, …}``.
    :param weight: the version's share, in percent.
    :param mode: ``serve``: it answers its share; ``mirror``: it gets copies of it and nobody sees its
        answers; ``standby``: it is loaded and gets nothing yet.
    :param keep: whether a champion without traffic stays loaded, to take over again at once.
    :param strategy: the rollout's name, for whoever reads the ledger.
    :param policies: the platform's policies that apply; what they demand before any traffic must stand in
        the run's ledger.
    """

    template_fields = (
        *PipelineOperator.template_fields,
        "version",
        "serving",
        "weight",
        "mode",
        "keep",
        "strategy",
        "policies",
    )
    operator_extra_links = (ModelVersionLink(),)
    ui_color = ACT

    def __init__(
        self,
        *,
        version: Upstream,
        serving: Mapping[str, Any],
        weight: int | str = 100,
        mode: str = SERVE,
        keep: bool = False,
        strategy: str = "direct",
        policies: Sequence[Mapping[str, Any]] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.version = version
        self.serving = serving
        self.weight = weight
        self.mode = mode
        self.keep = keep
        self.strategy = strategy
        self.policies = policies

    def perform(self, run: RunIdentity, context: Context) -> dict[str, Any]:
        version, weight = version_number(self.version), _percent(self.weight)
        end = self.settled(run)
        if end is not None:
            return self._result(version, end.previous, Traffic(), end.at)
        check_traffic(
            self,
            run,
            context,
            self.policies,
            version=version,
            strategy=self.strategy,
            share=weight if self.mode == SERVE else 0,
        )
        rollout = self.rollout(run, self.serving)
        gated = self.recorded(run, "gated")
        champion = gated.previous if gated else rollout.adopt().champion
        champion = champion if champion != version else None
        link = rollout.shift(
            version,
            self._traffic(version, champion, weight),
            champion=champion,
            outcome=str(weight) if self.mode == SERVE else self.mode,
            evidence={"strategy": self.strategy},
        )
        shifted = link.event
        traffic = shifted.traffic or Traffic()
        self.log.info("Traffic of %s by version, in percent: %s", self.pipeline, dict(traffic.weights))
        if traffic.mirrored:
            self.log.info("Copies of requests, in percent: %s", dict(traffic.mirrored))
        return self._result(version, shifted.previous, traffic, shifted.at)

    def _traffic(self, version: str, champion: str | None, weight: int) -> Traffic:
        if champion is None:
            return Traffic(weights={version: 100})
        match self.mode:
            case "serve":
                weights = {champion: 100 - weight, version: weight}
                kept = {champion} if self.keep else set()
                return Traffic(
                    weights={each: share for each, share in weights.items() if share or each in kept}
                )
            case "mirror":
                return Traffic(weights={champion: 100}, mirrored={version: weight})
            case "standby":
                return Traffic(weights={champion: 100, version: 0})
        raise ConfigError(
            "no such way to deploy", found=repr(self.mode), allowed=f"{SERVE}, {MIRROR}, {STANDBY}"
        )

    def _result(
        self, version: str, champion: str | None, traffic: Traffic, since: datetime
    ) -> dict[str, Any]:
        return {
            "model": self.pipeline,
            "version": version,
            "champion": champion,
            "weights": dict(traffic.weights),
            "mirrored": dict(traffic.mirrored),
            "since": wire.to_wire(since),
            "strategy": self.strategy,
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
    """Judge what a version did with its share of the traffic, or with copies of it.

    Returns ``{verdict, reason, version, stats}``, the verdict being ``advance``; ``roll_back`` gives all
    requests back to the champion and fails the task for good with the reason, ``hold`` (too few requests yet)
    fails it so that a retry may see more. While there is no champion to hold for, ``hold`` advances.
    Idempotent; once the run has ended, it returns how.

    :param shift: what :class:`DeployModelOperator` returned.
    :param serving: where models are served, ``{target, conn_id, …}``.
    :param guards: see :class:`~mlretrain.gates.canary.Guard`.
    :param min_requests: fewer than these decide nothing.
    :param predictions: the prediction log, for guards on predictions.
    :param observation: what the sensor saw last; none, or a hold: look now.
    """

    template_fields = (
        *PipelineOperator.template_fields,
        "shift",
        "serving",
        "guards",
        "min_requests",
        "predictions",
        "observation",
    )
    ui_color = DECIDE

    def __init__(
        self,
        *,
        shift: Upstream,
        serving: Mapping[str, Any],
        guards: Sequence[Mapping[str, Any]] = (),
        min_requests: int = 100,
        predictions: Mapping[str, Any] | None = None,
        observation: Upstream = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.shift = shift
        self.serving = serving
        self.guards = guards
        self.min_requests = min_requests
        self.predictions = predictions
        self.observation = observation

    def demanded(self) -> Require:
        """What the ledger must show of it before the model gets on: its stage, as far as the DAG says it."""
        weight = str(getattr(getattr(self.shift, "operator", None), "weight", ""))
        return Require(stages=(int(weight),)) if weight.isdigit() and int(weight) else Require()

    def perform(self, run: RunIdentity, context: Context) -> dict[str, Any]:
        version = version_number(self.shift)
        end = self.settled(run)
        if end is not None:
            return {"verdict": "advance", "reason": end.reason, "version": version, "stats": {}}
        seen = self._seen()
        self.log.info("%s", seen["reason"])
        verdict = str(seen["verdict"])
        if verdict == "hold" and not self.shift.get("champion"):
            verdict = "advance"
        if verdict == "hold":
            raise TransientError(
                seen["reason"],
                where=f"version {version}",
                remedy="Wait longer before this task (bake), or lower min_requests.",
            )
        self._note(run, version, verdict, seen)
        if verdict == "roll_back":
            self.rollout(run, self.serving).withdraw(version, seen["reason"])
            raise AirflowFailException(f"version {version} must go: {seen['reason']}")
        return {**seen, "verdict": verdict, "version": version}

    def _seen(self) -> dict[str, Any]:
        if self.observation and self.observation.get("verdict") != "hold":
            return dict(self.observation)
        watch = Watch.of_shift(
            self.shift,
            guards=self.guards,
            bake_s=0.0,
            patience_s=0.0,
            min_requests=int(self.min_requests),
        )
        log = PredictionLog.of(self.predictions, self.storage_env or None) if self.predictions else None
        return look(watch, self.serving_target(self.serving), datetime.now(UTC), log).result()

    def _note(self, run: RunIdentity, version: str, verdict: str, seen: Mapping[str, Any]) -> None:
        """What was seen in this stage, for the ledger's readers."""
        stage = self.shift.get("weights", {}).get(version, "mirrored")
        self.append(
            run,
            "observed",
            version=version,
            previous=self.shift.get("champion"),
            outcome=f"{verdict}-{stage}",
            reason=str(seen["reason"]),
            evidence={
                "stats": seen.get("stats") or {},
                "champion": seen.get("champion"),
                "shift": seen.get("shift"),
                "since": self.shift.get("since"),
                "guards": [dict(guard) for guard in self.guards],
            },
        )


class RollBackModelOperator(PipelineOperator):
    """Take a candidate out of the traffic, or move back to an earlier version; then see that it is so.

    Returns ``{name, version, previous, reason}``: what serves now, and what it takes over from. Idempotent:
    where it goes is decided once per run, and what the ledger says is made so, however often; in a run that
    has ended otherwise, nothing is touched.

    :param to: ``champion``: end this run's rollout, if it began: the champion takes all traffic (without one
        it stays: nothing else could answer); ``previous``, or empty: make the version that was champion
        before the current one champion again; or a version number, ``7`` or ``v7``.
    :param reason: why, in a sentence; required to move the champion. A breached guard speaks for itself.
    :param by: who asks for it.
    :param serving: where models are served, ``{target, conn_id, …}``; none: nowhere.
    """

    template_fields = (*PipelineOperator.template_fields, "to", "reason", "by", "serving")
    operator_extra_links = (ModelVersionLink(),)
    ui_color = ACT

    def __init__(
        self,
        *,
        to: str = CHAMPION,
        reason: str | None = None,
        by: str = "",
        serving: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.to = to
        self.reason = reason
        self.by = by
        self.serving = serving
        may_change_champion(self)

    def perform(self, run: RunIdentity, context: Context) -> dict[str, Any]:
        end = self.settled(run)
        if end is not None and end.kind != "rolled_back":
            return self._result(end.version, end.previous, end.reason)
        done = self._end_rollout(run) if self.to == CHAMPION else self._move_back(run)
        self.log.info(
            "Version %s serves in place of %s: %s",
            done["version"] or "none",
            done["previous"],
            done["reason"],
        )
        emit_champion(self, context, run.run_id)
        return done

    def _result(self, version: str | None, previous: str | None, reason: str | None) -> dict[str, Any]:
        return {"name": self.pipeline, "version": version, "previous": previous, "reason": reason}

    def _end_rollout(self, run: RunIdentity) -> dict[str, Any]:
        shifts = self.ledger.of_run(run.run_id, "shifted")
        breaches = [
            each
            for each in self.ledger.of_run(run.run_id, "observed", "withdrawn")
            if each.kind == "withdrawn" or str(each.outcome).startswith("roll_back")
        ]
        reason = breaches[0].reason if breaches else self.reason or "the rollout failed"
        done = self.rollout(run, self.serving).roll_back(shifts[-1].version, reason) if shifts else None
        if done is None:
            # one_failed counts tasks that could not run, so this one runs after a failed training too.
            raise AirflowSkipException("This run has moved neither traffic nor the champion.")
        event = done.event
        if event.version is None:
            self.log.warning("There is no champion to fall back on; the traffic is left as it is.")
        return self._result(event.version, event.previous, event.reason)

    def _move_back(self, run: RunIdentity) -> dict[str, Any]:
        if not (self.reason or "").strip():
            raise ConfigError(
                "a roll-back needs a reason",
                where=f"{run.dag_id}/{self.task_id}",
                remedy="Say in a sentence why the champion is moved.",
            )
        rollout = self.rollout(run, self.serving)
        path = f"{self.folder(run, 'roll_back')}/decision.json"
        to = self.once(path, lambda: {"version": self._wanted(rollout.adopt().before)})["version"]
        event = rollout.move_back(to, reason=str(self.reason), by=self.by or run.by).event
        return self._result(event.version, event.previous, event.reason)

    def _wanted(self, before: str | None) -> str:
        if self.to not in ("", "previous", "None"):
            return str(self.to).removeprefix("v")
        if before is None:
            raise InvalidInput(
                "the ledger knows no champion before the current one",
                where=self.pipeline,
                remedy="Say which version to roll back to.",
            )
        return before
