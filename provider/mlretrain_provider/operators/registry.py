"""The registry: a version for the candidate, the gate before it, and the champion's crown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlretrain_provider.operators.pipeline import ACT, DECIDE, PipelineOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class RegisterModelOperator(PipelineOperator):
    """Register the candidate as a model version, with its evidence as tags and the alias ``challenger``.

    Returns ``{name, version, model_uri}``. Idempotent: the version belongs to the MLflow run, so there is one
    for each; once the run is concluded, the recorded version is returned and nothing is touched.

    :param training: what :class:`TrainModelOperator` returned.
    :param evaluation: what :class:`EvaluateModelOperator` returned.
    :param version_tags: further tags of the version.
    """

    template_fields = (*PipelineOperator.template_fields, "training", "evaluation", "version_tags")
    ui_color = ACT

    def __init__(
        self,
        *,
        training: Mapping[str, Any],
        evaluation: Mapping[str, Any] | None = None,
        version_tags: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.training = training
        self.evaluation = evaluation
        self.version_tags = version_tags


class PromotionGateOperator(PipelineOperator):
    """Judge the candidate by the gates; a rejection succeeds and skips the rest of the run.

    Returns ``{verdict, outcome, reason, checks_uri, champion_version}``, ``outcome`` being ``promote``,
    ``reject`` or ``dry_run``. Gates fail closed. Idempotent: it only records; once the run is concluded, the
    recorded verdict is returned.

    :param evaluation: what :class:`EvaluateModelOperator` returned.
    :param gates: each ``{metric, min?, max?, versus?, min_improvement?, confidence?, slices?, max_drop?, …}``.
    :param mode: ``enforce``, or ``dry_run``: judge, record, promote nothing. A run whose conf or form says
        ``dry_run`` is one whatever the mode.
    """

    inherits_from_skipmixin = True
    template_fields = (*PipelineOperator.template_fields, "evaluation", "gates", "mode")
    ui_color = DECIDE

    def __init__(
        self,
        *,
        evaluation: Mapping[str, Any],
        gates: Sequence[Mapping[str, Any]] = (),
        mode: str = "enforce",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.evaluation = evaluation
        self.gates = gates
        self.mode = mode


class PromoteModelOperator(PipelineOperator):
    """Make a version the champion: all traffic, the alias, the ledger.

    Returns ``{name, version, previous, promoted}``. Idempotent: every act is repeated harmlessly until the ledger
    says ``promoted``, which comes last; after that, and in a concluded run, nothing is touched.

    :param version: what :class:`RegisterModelOperator` returned, or a version number.
    :param serving_conn_id: the model server's connection; none: nothing is served.
    """

    template_fields = (*PipelineOperator.template_fields, "version", "serving_conn_id")
    ui_color = ACT

    def __init__(
        self, *, version: Mapping[str, Any] | str, serving_conn_id: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.version = version
        self.serving_conn_id = serving_conn_id
