"""Buttons on a task: its MLflow run, its model version, and what it has written for people.

A link reads what its operator returned (its ``return_value`` XCom, a dict): ``mlflow_run_id``; ``version``
with ``name`` (default: the operator's ``pipeline``); ``docs_uri``; ``report_uri``; ``decision_uri``;
``trials_uri``. A task that may fail after it knows one of them pushes the same keys, as soon as it does, as
a dict to the XCom ``mlretrain_links``; what was returned goes first. Nothing else is asked of operators:
links are made in the worker after the task has ended, in a new process if it was deferred, and only their
text is stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperatorLink, BaseXCom

from mlretrain_provider.hooks.mlflow import MLflowHook
from mlretrain_provider.plugins.artifacts import artifact_path

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

LINKS_XCOM = "mlretrain_links"


class FactLink(BaseOperatorLink):
    """A link made from what its task found out; none (an empty text) while that is unknown."""

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        # One at a time: Airflow logs an error for an XCom that is asked for and not there.
        for key in (BaseXCom.XCOM_RETURN_KEY, LINKS_XCOM):
            facts = BaseXCom.get_one(
                key=key,
                dag_id=ti_key.dag_id,
                task_id=ti_key.task_id,
                run_id=ti_key.run_id,
                map_index=ti_key.map_index,
            )
            url = self.url(operator, facts) if isinstance(facts, Mapping) else None
            if url:
                return url
        return ""

    def url(self, operator: Any, facts: Mapping[str, Any]) -> str | None:
        """The address, from the operator's settings and the task's facts."""
        raise NotImplementedError


class MLflowRunLink(FactLink):
    """The run in MLflow."""

    name = "MLflow run"

    def url(self, operator: Any, facts: Mapping[str, Any]) -> str | None:
        run_id = facts.get("mlflow_run_id")
        return MLflowHook(operator.mlflow_conn_id).tracker().web_url(str(run_id)) if run_id else None


class ModelVersionLink(FactLink):
    """The model version in MLflow's registry."""

    name = "Model version"

    def url(self, operator: Any, facts: Mapping[str, Any]) -> str | None:
        version = facts.get("version")
        if not version:
            return None
        registry = MLflowHook(operator.mlflow_conn_id).registry()
        return registry.web_url(str(facts.get("name") or operator.pipeline), str(version))


class ArtifactLink(FactLink):
    """A page of the artifact store, shown by the plugin; see ``[mlretrain] artifact_roots``."""

    fact: str

    def url(self, operator: Any, facts: Mapping[str, Any]) -> str | None:
        uri = facts.get(self.fact)
        return artifact_path(operator.artifacts_uri, str(uri)) if uri else None


class DataDocsLink(ArtifactLink):
    """What validation found, and from there Great Expectations' own pages."""

    name = "Data Docs"
    fact = "docs_uri"


class DriftReportLink(ArtifactLink):
    """Which columns drifted, by how much."""

    name = "Drift report"
    fact = "report_uri"


class PerformanceReportLink(ArtifactLink):
    """How well the champion does, by labels or by an estimate."""

    name = "Performance report"
    fact = "report_uri"


class DecisionLink(ArtifactLink):
    """Whether to retrain, and everything that this was decided on."""

    name = "Decision"
    fact = "decision_uri"


class TrialsLink(ArtifactLink):
    """What a search has tried, and what came of it."""

    name = "Trials"
    fact = "trials_uri"
