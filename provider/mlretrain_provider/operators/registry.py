"""The registry: a version for the candidate, the gate before it, and the champion's alias."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from mlretrain import wire
from mlretrain.gates import evidence
from mlretrain.gates.promotion import Evaluation, Gate, judge
from mlretrain.gates.worse import worse
from mlretrain.governance import Require, Terms
from mlretrain.ports import CHALLENGER
from mlretrain.verdict import Check
from mlretrain_provider.assets import emit_champion, may_change_champion
from mlretrain_provider.governance import check_promotion, check_terms
from mlretrain_provider.links import MLflowRunLink, ModelVersionLink
from mlretrain_provider.operators.pipeline import ACT, DECIDE, PipelineOperator, Upstream
from mlretrain_provider.operators.recipe import run_tags
from mlretrain_provider.run import RunIdentity
from mlretrain_provider.skipping import skip_rest

if TYPE_CHECKING:
    from airflow.sdk import Context


def version_number(version: Mapping[str, Any] | str | int) -> str:
    """The version that an upstream task's result, or a number, means."""
    return str(version["version"] if isinstance(version, Mapping) else version)


class RegisterModelOperator(PipelineOperator):
    """Register the candidate as a model version, with its evidence as tags and the alias ``challenger``.

    Returns ``{name, version, model_uri, mlflow_run_id}``. Idempotent: a run registers one version; once it
    has, and all the more when the run has ended, that version is returned.

    :param training: what :class:`TrainModelOperator` returned.
    :param evaluation: what :class:`EvaluateModelOperator` returned.
    :param version_tags: further tags of the version.
    """

    template_fields = (*PipelineOperator.template_fields, "training", "evaluation", "version_tags")
    operator_extra_links = (ModelVersionLink(), MLflowRunLink())
    ui_color = ACT

    def __init__(
        self,
        *,
        training: Upstream,
        evaluation: Upstream = None,
        version_tags: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.training = training
        self.evaluation = evaluation
        self.version_tags = version_tags

    def perform(self, run: RunIdentity, context: Context) -> dict[str, Any]:
        if self.settled(run):
            registered = self.recorded(run, "registered")
            if registered is None:
                raise AirflowSkipException("The run ended without a version; none is registered now.")
            return dict(registered.evidence)
        # Register, then alias, then ledger: each is repeated harmlessly if a crash came between.
        mlflow_run_id = str(self.training["mlflow_run_id"])
        version = self.registry.register(
            self.pipeline, self.training["model_uri"], mlflow_run_id, self._tags(run)
        )
        self.registry.set_alias(self.pipeline, CHALLENGER, version.version)
        result = {
            "name": version.name,
            "version": version.version,
            "model_uri": version.model_uri,
            "mlflow_run_id": mlflow_run_id,
        }
        self.append(run, "registered", version=version.version, reason=run.reason, evidence=result)
        self.log.info("%s version %s is the challenger.", version.name, version.version)
        return result

    def _tags(self, run: RunIdentity) -> dict[str, str]:
        evaluation = self.evaluation or {}
        facts = {
            "profile_uri": self.training.get("profile_uri"),
            "sample_uri": self.training.get("sample_uri"),
            "prediction_profile_uri": evaluation.get("prediction_profile_uri"),
            "holdout_sha256": self.training.get("holdout_sha256"),
            "evaluation_uri": evaluation.get("evaluation_uri"),
            "calibration_uri": evaluation.get("calibration_uri"),
            "importance_uri": evaluation.get("importance_uri"),
            "model_sha256": self.training.get("model_sha256"),
            "signature_sha256": self.training.get("signature_sha256"),
            "champion_before": evaluation.get("champion_version"),
            "key": self.training.get("key"),
        }
        metrics = {f"metric.{name}": value for name, value in (evaluation.get("metrics") or {}).items()}
        tags = {f"mlretrain.{name}": str(value) for name, value in {**facts, **metrics}.items() if value}
        fingerprint = self.training.get("dataset_fingerprint")
        return {
            **dict(self.version_tags or {}),
            **run_tags(run, pipeline=self.pipeline, fingerprint=fingerprint),
            **tags,
        }


class PromotionGateOperator(PipelineOperator):
    """Judge the candidate by the gates; a rejection succeeds and skips the rest of the run.

    Returns ``{verdict, outcome, reason, checks_uri, evidence_uri, evidence_md, champion_version, gates,
    worse}``: ``outcome`` is ``promote``, ``reject`` or ``dry_run``, ``evidence_md`` all checks as a small
    table, ``worse`` a clause for everything in which the candidate is worse than the champion. Gates fail
    closed. Idempotent: it only records, and clearing it judges again by the gates of now; once the run has
    ended, the recorded verdict is returned.

    :param evaluation: what :class:`EvaluateModelOperator` returned.
    :param smoke_test: what :class:`~mlretrain_provider.operators.smoke.SmokeTestOperator` returned; a model
        that failed it is rejected.
    :param gates: each as :class:`~mlretrain.gates.gate.Gate` has it.
    :param mode: ``enforce``, or ``dry_run``: judge, record, promote nothing. A run whose conf or form says
        ``dry_run`` is one whatever the mode.
    :param policies: the platform's policies that apply; gates that are less than they demand are refused.
    """

    inherits_from_skipmixin = True
    template_fields = (
        *PipelineOperator.template_fields,
        "evaluation",
        "smoke_test",
        "gates",
        "mode",
        "policies",
    )
    ui_color = DECIDE

    def __init__(
        self,
        *,
        evaluation: Upstream,
        smoke_test: Upstream = None,
        gates: Sequence[Mapping[str, Any]] = (),
        mode: str = "enforce",
        policies: Sequence[Mapping[str, Any]] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.evaluation = evaluation
        self.smoke_test = smoke_test
        self.gates = gates
        self.mode = mode
        self.policies = policies

    def demanded(self) -> Require:
        """What the ledger must show of it before the model gets on."""
        return Require(mode="enforce")

    def perform(self, run: RunIdentity, context: Context) -> dict[str, Any]:
        gated = self.recorded(run, "gated")
        if self.settled(run) and gated is not None:
            result = dict(gated.evidence)
        else:
            terms = Terms(gates=tuple(dict(gate) for gate in self.gates))
            check_terms(self, run, context, self.policies, terms, "promote.gates")
            result = self._judge(run)
        if result["outcome"] == "promote":
            return result
        return skip_rest(context, result)

    def _judge(self, run: RunIdentity) -> dict[str, Any]:
        evaluation = wire.from_wire(Evaluation, self.read_json(self.evaluation["evaluation_uri"]))
        gates = tuple(wire.from_wire(Gate, dict(gate)) for gate in self.gates)
        verdict = judge(gates, evaluation, beside=self._smoke_tested())
        path = f"{self.folder(run, self.task_id)}/verdict.json"
        self.store.write(path, wire.pretty(verdict))
        for line in evidence.text(verdict.checks):
            self.log.info("%s", line)
        table = evidence.markdown(verdict.checks)
        table_path = f"{self.folder(run, self.task_id)}/evidence.md"
        self.store.write(table_path, table.encode())
        dry_run = self.mode == "dry_run" or run.dry_run
        outcome = "dry_run" if dry_run else verdict.verdict
        result = {
            "verdict": verdict.verdict,
            "outcome": outcome,
            "reason": verdict.reason,
            "checks_uri": self.artifact_uri(path),
            "evidence_uri": self.artifact_uri(table_path),
            "champion_version": evaluation.champion_version,
            "gates": [dict(gate) for gate in self.gates],
            "worse": list(worse(gates, evaluation)),
        }
        registered = self.recorded(run, "registered")
        self.append(
            run,
            "gated",
            version=registered.version if registered else None,
            previous=evaluation.champion_version,
            outcome=outcome,
            reason=verdict.reason,
            evidence=result,
        )
        if registered is not None:
            tags = {"mlretrain.gate_uri": str(result["evidence_uri"]), "mlretrain.gate": verdict.reason}
            self.registry.tag(self.pipeline, str(registered.version), tags)
        self.log.info("%s%s", verdict.reason, " (dry run)" if dry_run else "")
        return {**result, "evidence_md": table}

    def _smoke_tested(self) -> tuple[Check, ...]:
        """The smoke test as one check; none if the pipeline has none."""
        if self.smoke_test is None:
            return ()
        return (
            Check(
                name="smoke test",
                passed=self.smoke_test["passed"] is True,
                observed="passed" if self.smoke_test["passed"] is True else "failed",
                required="passed",
                note=str(self.smoke_test["reason"]),
            ),
        )


class PromoteModelOperator(PipelineOperator):
    """Make a version the champion: all traffic, the ledger, the alias.

    Returns ``{name, version, previous}``. Idempotent: what the ledger says is made so, however often and
    after whatever crash; in a run that has ended, nothing else is touched. A candidate that was judged beside
    another champion than the present one is refused, and so is one whose run's ledger does not show what the
    policies demand, and what the tasks before this one are there for.

    :param version: what :class:`RegisterModelOperator` returned, or a version number.
    :param serving: where models are served, ``{target, conn_id, …}``; none: nowhere.
    :param policies: the platform's policies that apply; see :mod:`mlretrain_provider.governance`.
    """

    template_fields = (*PipelineOperator.template_fields, "version", "serving", "policies")
    operator_extra_links = (ModelVersionLink(),)
    ui_color = ACT

    def __init__(
        self,
        *,
        version: Upstream,
        serving: Mapping[str, Any] | None = None,
        policies: Sequence[Mapping[str, Any]] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.version = version
        self.serving = serving
        self.policies = policies
        may_change_champion(self)

    def perform(self, run: RunIdentity, context: Context) -> dict[str, Any]:
        version = version_number(self.version)
        rollout = self.rollout(run, self.serving)
        end = self.settled(run)
        if end is not None and end.kind != "promoted":
            return {"name": self.pipeline, "version": end.version, "previous": end.previous}
        if not self.recorded(run, "promoted"):
            check_promotion(self, run, context, self.policies, version=version)
        gated = self.recorded(run, "gated")
        champion = gated.previous if gated else rollout.adopt().champion
        promoted, new = rollout.promote(
            version,
            champion=champion if champion != version else None,
            reason=gated.reason if gated else run.reason,
        )
        if new:
            self.log.info(
                "Version %s is the champion; before it was %s.", version, promoted.previous or "none"
            )
        emit_champion(self, context, run.run_id)
        return {"name": self.pipeline, "version": promoted.version, "previous": promoted.previous}
