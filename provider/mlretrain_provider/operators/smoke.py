"""The smoke test: would the packaged model load, and answer, where nothing but its requirements is?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from mlretrain import wire
from mlretrain.errors import NotFound, UnmetRequirements
from mlretrain.governance import Require
from mlretrain.runtime.fingerprint import MODEL_TAG, SIGNATURE_TAG
from mlretrain.runtime.installer import cause
from mlretrain.verdict import Check
from mlretrain_provider.links import ModelVersionLink
from mlretrain_provider.operators.pipeline import Upstream
from mlretrain_provider.operators.registry import version_number
from mlretrain_provider.operators.step import StepOperator
from mlretrain_provider.run import RunIdentity

if TYPE_CHECKING:
    from airflow.sdk import Context


class SmokeTestOperator(StepOperator):
    """Load the packaged model apart from all that trained it, and ask it about its own input example.

    Returns ``{passed, reason, environment, checks, checks_uri, seconds, version}``. A model that fails is an
    ordinary result, which the promotion gate rejects; also one whose requirements cannot be installed. Only
    where the package index, MLflow or the platform does not answer does the task fail, and may be retried.

    What is checked: the files and the signature are those that training packed; the environment has what the
    model requires; the model loads, in a process without the pipeline's code and credentials; it answers as
    many rows as it is asked; no value is null or infinite; the answer fits the signature, and is the one that
    it gave where it was trained.

    On this machine a clean environment is made once for each list of requirements, and kept; beside them it
    has those of mlretrain's own runtime (MLflow, pandas, DuckDB, pyarrow, boto3). Elsewhere the job makes one
    of the requirements alone, every time. Where the package index does not answer it, the model is tested in
    the job's own environment, whose packages must be exactly those that the model requires; ``environment``
    then says ``job``, which a policy that asks for ``clean`` does not accept.

    :param training: what :class:`~mlretrain_provider.operators.training.TrainModelOperator` returned.
    :param version: what :class:`~mlretrain_provider.operators.registry.RegisterModelOperator` returned, or a
        version number: that version is tested, and its tags count too. None: the model as training left it.
    :param mode: ``clean``: in an environment of the model's own requirements; ``job``: in the job's.
    :param tolerance: how far a number of the answer may be from what it was in training, relatively.
    """

    step = "smoke"
    uses_mlflow = True
    template_fields = (*StepOperator.template_fields, "training", "version", "mode", "tolerance")
    operator_extra_links = (ModelVersionLink(),)

    def __init__(
        self,
        *,
        training: Upstream,
        version: Upstream = None,
        mode: Literal["clean", "job"] = "clean",
        tolerance: float = 1e-6,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.training = training
        self.version = version
        self.mode = mode
        self.tolerance = tolerance

    def demanded(self) -> Require:
        """What the ledger must show of it before the model gets on."""
        return Require(smoke_test="job")

    def perform(self, run: RunIdentity, context: Context) -> dict[str, Any]:
        tested = self.recorded(run, "tested") if self.settled(run) else None
        if tested is not None:
            return {**tested.evidence, "checks": self.read_json(str(tested.evidence["checks_uri"]))}
        if self._environment == "clean" and not self._backend.remote:
            self.requirements = self._requirements
        try:
            result = super().perform(run, context)
        except UnmetRequirements as error:
            result = self._not_installed(run, error)
        result["version"] = self._version
        self.append(
            run,
            "tested",
            version=self._version,
            outcome="passed" if result["passed"] else "failed",
            reason=result["reason"],
            evidence={name: value for name, value in result.items() if name != "checks"},
        )
        self.log.info("%s: %s.", "Passed" if result["passed"] else "FAILED", result["reason"])
        return result

    def config(self, run: RunIdentity, context: Context) -> dict[str, Any]:
        version = self._version
        return {
            "model_uri": f"models:/{self.pipeline}/{version}" if version else self.training["model_uri"],
            "requirements": self._requirements,
            "model_sha256": self.training.get("model_sha256") or "",
            "signature_sha256": self.training.get("signature_sha256") or "",
            "example_uri": self.training.get("example_uri"),
            "environment": self._environment,
            "install": self._environment == "clean" and self._backend.remote,
            "tolerance": float(self.tolerance),
        }

    def frozen(self, run: RunIdentity, key: str, config: Mapping[str, Any]) -> dict[str, Any]:
        if self._version is None:
            return {}
        found = self.registry.version(self.pipeline, self._version)
        if found is None:
            raise NotFound("no such version", where=self.pipeline, found=self._version)
        return {name: found.tags[name] for name in (MODEL_TAG, SIGNATURE_TAG) if name in found.tags}

    @property
    def _version(self) -> str | None:
        return None if self.version is None else version_number(self.version)

    @property
    def _requirements(self) -> list[str]:
        return list(self.training.get("model_requirements") or ())

    @property
    def _environment(self) -> Literal["clean", "job"]:
        return "clean" if self.mode == "clean" and self._requirements else "job"

    def _not_installed(self, run: RunIdentity, error: UnmetRequirements) -> dict[str, Any]:
        """The result of a model for which no environment can be made."""
        reason = f"the model's requirements cannot be installed: {cause(error)}"
        check = Check(
            name="requirements", passed=False, observed="missing", required="installed", note=reason
        )
        path = f"{self.folder(run, self.task_id)}/checks.json"
        self.store.write(path, wire.pretty([check]))
        return {
            "passed": False,
            "reason": reason,
            "environment": self._environment,
            "checks": wire.to_wire([check]),
            "checks_uri": self.artifact_uri(path),
            "seconds": {},
        }
