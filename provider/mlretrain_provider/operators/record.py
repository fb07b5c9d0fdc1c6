"""The last task of every run: one sentence about how it ended, for people, registry and notifiers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk import TriggerRule

from mlretrain.decisions import DecisionLog
from mlretrain.errors import MlretrainError
from mlretrain.follower import drop_challenger
from mlretrain.ledger import FAILED, LedgerEvent
from mlretrain.policy.retrain import RetrainDecision, WindowRecord
from mlretrain.ports import CHAMPION
from mlretrain.runtime.contract import REQUEST_FILE
from mlretrain.runtime.store import read_uri
from mlretrain_provider.assets import emit_champion, may_change_champion
from mlretrain_provider.card import publish_card
from mlretrain_provider.jobs import cancel_jobs
from mlretrain_provider.links import ModelVersionLink
from mlretrain_provider.operators.pipeline import ACT, PipelineOperator
from mlretrain_provider.run import RunIdentity
from mlretrain_provider.trials import TrialLog

if TYPE_CHECKING:
    from airflow.sdk import Context

MONITOR, ROLLBACK, SCORE = "monitor", "rollback", "score"
CUT_SHORT = "the run ended in mid-rollout"
_BROKEN = ("failed", "upstream_failed")


class RecordRunOperator(PipelineOperator):
    """Conclude a run: the outcome to the ledger, the MLflow run closed, the version tagged.

    A rollout that is still open is rolled back, and alias and traffic are made what the ledger says. Returns
    ``{outcome, reason, event, version, previous, evidence_md}``, the last being what the gates saw; a
    monitoring or scoring run changes nothing and returns the first four. The outcome is ``promoted``,
    ``rejected``, ``rolled_back``, ``dry_run``, ``failed``, ``skipped`` or ``finished``; of a monitoring run
    ``drift`` (a retraining starts, if the pipeline decides on any), ``warned``, ``paged``, ``unknown``,
    ``stable``, ``skipped``, ``failed``;
    of a scoring run ``scored``, ``skipped`` or ``failed``.
    It runs whatever happened before, also as a teardown, and cancels the jobs that the run has left behind.
    Idempotent: a conclusion is written once, and one for good stays.

    :param kind: the DAG's kind: ``retrain``, ``monitor``, ``rollback`` or ``score``.
    :param serving: where models are served, ``{target, conn_id, …}``; none: nowhere.
    """

    template_fields = (*PipelineOperator.template_fields, "kind", "serving")
    operator_extra_links = (ModelVersionLink(),)
    ui_color = ACT

    def __init__(
        self, *, kind: str = "retrain", serving: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**{"trigger_rule": TriggerRule.ALL_DONE, **kwargs})
        self.kind = kind
        self.serving = serving
        if kind not in (MONITOR, SCORE):
            may_change_champion(self)

    def perform(self, run: RunIdentity, context: Context) -> dict[str, Any]:
        states = self._states(run, context)
        if self.kind == MONITOR:
            outcome, reason, version = self._monitored(run, states)
        elif self.kind == SCORE:
            outcome, reason, version = scored(states, context["ti"].xcom_pull(task_ids="score"))
        else:
            outcome, reason, version = self._conclude(run, states)
            emit_champion(self, context, run.run_id)
        for job in cancel_jobs(self.store, self.folder(run, ""), run.dag_id):
            self.log.warning("Job %s still ran; it is cancelled.", job)
        self.log.info("%s: %s", outcome, reason)
        told = {"outcome": outcome, "reason": reason, "event": outcome, "version": version}
        if self.kind in (MONITOR, SCORE):
            return told
        return {**told, "previous": self._previous(run), "evidence_md": self._evidence(run)}

    def _previous(self, run: RunIdentity) -> str | None:
        """Whom the run's version took over from."""
        acts = self.ledger.of_run(run.run_id, "promoted", "rolled_back")
        return acts[-1].previous if acts else None

    def _states(self, run: RunIdentity, context: Context) -> dict[str, str]:
        """The states of the run's other tasks."""
        found = context["ti"].get_task_states(dag_id=run.dag_id, run_ids=[run.run_id]).get(run.run_id) or {}
        return {task: str(state) for task, state in found.items() if task != self.task_id}

    def _monitored(self, run: RunIdentity, states: Mapping[str, str]) -> tuple[str, str, str | None]:
        failed = _failed(states)
        if failed:
            return "failed", failed, None
        decided = DecisionLog(self.store, self.pipeline).at(run.window_end)
        if decided is not None and decided.champion:
            return event_of(decided.decision), decided.decision.reason, decided.champion
        windows = self.windows.at(run.window_end)
        if not windows:
            return "skipped", "there was nothing to measure", None
        champion = self.registry.version(self.pipeline, f"@{CHAMPION}")
        in_force = [each for each in windows if champion and each.champion == champion.version]
        window = (in_force or list(windows))[-1]
        return measured(window), window.summary, window.champion

    def _conclude(self, run: RunIdentity, states: Mapping[str, str]) -> tuple[str, str, str | None]:
        end = self.ledger.concluded(run.run_id)
        if end is not None and end.outcome not in (None, FAILED):
            return str(end.outcome), end.reason, end.version
        self._leave_nothing_open(run)
        events = self.ledger.of_run(run.run_id)
        outcome, reason, version = outcome_of(events, states)
        self._close(run, "FAILED" if outcome == "failed" else "FINISHED")
        registered = _last(events, "registered")
        if registered is not None and registered.version is not None:
            tags = {"mlretrain.outcome": outcome, "mlretrain.outcome_reason": reason}
            self.registry.tag(self.pipeline, registered.version, tags)
            drop_challenger(self.registry, self.pipeline, registered.version)
        self.append(run, "concluded", version=version, outcome=outcome, reason=reason)
        self._publish_cards(run)
        return outcome, reason, version

    def _evidence(self, run: RunIdentity) -> str:
        """What the gates saw, as a table; empty if none were asked."""
        gated = self.recorded(run, "gated")
        uri = gated.evidence.get("evidence_uri") if gated else None
        return read_uri(str(uri), self.storage_env or None).decode() if uri else ""

    def _publish_cards(self, run: RunIdentity) -> None:
        """Bring the cards of the run's versions up to date; a card is not worth a failure."""
        events = self.ledger.of_run(run.run_id)
        for version in sorted({each for event in events for each in (event.version, event.previous) if each}):
            try:
                publish_card(self, version)
            except MlretrainError as error:
                self.log.warning("Version %s has no new card: %s", version, error)

    def _leave_nothing_open(self, run: RunIdentity) -> None:
        """End a rollout that no task has ended, and finish what the ledger says is done."""
        shifts = self.ledger.of_run(run.run_id, "shifted")
        if not shifts and not self.ledger.of_run(run.run_id, "promoted", "rolled_back"):
            return
        rollout, version = self.rollout(run, self.serving), shifts[-1].version if shifts else None
        if self.kind == ROLLBACK:
            rollout.take_back(version, CUT_SHORT)
        elif rollout.roll_back(version, CUT_SHORT) is not None:
            return
        rollout.settle()

    def _close(self, run: RunIdentity, status: Literal["FINISHED", "FAILED"]) -> None:
        """End the MLflow runs that this run opened; they are named in its requests and trials."""
        for step in ("train", "tune"):
            for path in self.store.list(f"{self.folder(run, step)}-"):
                folder, _, name = path.rpartition("/")
                if name != REQUEST_FILE:
                    continue
                mlflow_run_id = json.loads(self.store.read(path))["frozen"].get("mlflow_run_id")
                if mlflow_run_id:
                    self.tracker.close_run(mlflow_run_id, status)
                for trial in TrialLog(self.store, folder).trials if step == "tune" else ():
                    if trial.state == "running":
                        self.tracker.close_run(trial.mlflow_run_id, "FAILED")


def event_of(decision: RetrainDecision) -> str:
    """What people are told of a decision: by its level, and if that is none by what the window came to."""
    by_level = {"retrain": "drift", "page": "paged", "warn": "warned"}
    return by_level.get(decision.level) or ("unknown" if decision.state == "unknown" else "stable")


def measured(window: WindowRecord) -> str:
    """What people are told of a window that nothing is decided about."""
    values = set(window.signals.values())
    if True in values:
        return "drift" if window.signals.get("drift") else "warned"
    return "stable" if False in values else "unknown"


def scored(states: Mapping[str, str], found: Mapping[str, Any] | None) -> tuple[str, str, str | None]:
    """How a scoring run ended, why, and which version scored most; ``found`` is what its job returned."""
    failed = _failed(states)
    if failed:
        return "failed", failed, None
    if found is None or "rows" not in found:
        return "skipped", (found or {}).get("skipped") or "there was nothing to score", None
    shares = {version: facts["rows"] for version, facts in found["versions"].items() if facts["weight"]}
    by = ", ".join(f"version {version} {rows}" for version, rows in shares.items())
    reason = f"{found['rows']} rows in {found['partitions']} partitions ({by}): {found['output_uri']}"
    return "scored", reason, max(shares, key=shares.__getitem__)


def outcome_of(events: tuple[LedgerEvent, ...], states: Mapping[str, str]) -> tuple[str, str, str | None]:
    """How a run ended, why, and which version it is about: by its ledger first, then by its tasks."""
    for event in reversed(events):
        if event.kind in ("promoted", "rolled_back", "rejected"):
            return event.kind, event.reason or event.kind, event.version
    gated = _last(events, "gated")
    registered = _last(events, "registered")
    version = registered.version if registered else None
    if gated is not None and gated.outcome == "dry_run":
        return "dry_run", f"dry run: {gated.reason}", version
    if gated is not None and gated.outcome == "reject":
        return "rejected", gated.reason or "a gate does not hold", version
    failed = _failed(states)
    if failed:
        return "failed", failed, version
    if gated is not None:
        return "rejected", "not promoted, though the gates hold", version
    skipped = sorted(task for task, state in states.items() if state == "skipped")
    if skipped and version is None:
        return "skipped", f"skipped: {', '.join(skipped)}", None
    return "finished", "every task has run", version


def _failed(states: Mapping[str, str]) -> str | None:
    """The tasks that failed first, or else those that could not run, in a sentence."""
    for state in _BROKEN:
        tasks = sorted(task for task, found in states.items() if found == state)
        if tasks:
            return f"{', '.join(tasks)} failed" if state == "failed" else f"{', '.join(tasks)} could not run"
    return None


def _last(events: tuple[LedgerEvent, ...], kind: str) -> LedgerEvent | None:
    return next((event for event in reversed(events) if event.kind == kind), None)
