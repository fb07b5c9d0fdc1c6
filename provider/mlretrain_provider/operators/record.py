"""The last task of every run: one sentence about how it ended, for people, registry and notifiers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import TriggerRule

from mlretrain_provider.operators.pipeline import ACT, PipelineOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class RecordRunOperator(PipelineOperator):
    """Conclude a run: outcome to the ledger, the MLflow run closed, the version tagged.

    Returns ``{outcome, reason, event, version}``. It runs whatever happened before, also as a teardown.
    Idempotent: a conclusion is written once, and a final one (promoted, rejected, rolled back, dry run) stays.

    :param kind: the DAG's kind: ``retrain``, ``monitor`` or ``rollback``.
    """

    template_fields = (*PipelineOperator.template_fields, "kind")
    ui_color = ACT

    def __init__(self, *, kind: str = "retrain", **kwargs: Any) -> None:
        super().__init__(**{"trigger_rule": TriggerRule.ALL_DONE, **kwargs})
        self.kind = kind
