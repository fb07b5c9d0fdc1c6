"""Traffic: shift some to a candidate, judge it by the guards, take it back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlretrain_provider.operators.pipeline import ACT, DECIDE, PipelineOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

SERVING = "mlretrain_model_server_default"


class DeployModelOperator(PipelineOperator):
    """Give a version a share of the traffic and leave the rest to the champion.

    Returns ``{model, version, champion, weights, since}``; ``champion`` is ``None`` while there is none, and then the
    version takes everything. Idempotent: the same share again changes nothing and keeps ``since``; once the run
    is concluded, nothing is touched.

    :param version: what :class:`RegisterModelOperator` returned, or a version number.
    :param weight: the version's share, in percent.
    :param serving_conn_id: the model server's connection.
    """

    template_fields = (*PipelineOperator.template_fields, "version", "weight", "serving_conn_id")
    ui_color = ACT

    def __init__(
        self,
        *,
        version: Mapping[str, Any] | str,
        weight: int | str = 100,
        serving_conn_id: str = SERVING,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.version = version
        self.weight = weight
        self.serving_conn_id = serving_conn_id


class CanaryGateOperator(PipelineOperator):
    """Judge what a version did with its share of the traffic.

    Returns ``{verdict, reason, version, checks}``, the verdict being ``advance``; ``roll_back`` fails the task for good
    with the reason, ``hold`` (too few requests yet) fails it so that a retry may see more. Idempotent: it changes
    nothing; once the run is concluded it advances without looking.

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
        shift: Mapping[str, Any],
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


class RollBackModelOperator(PipelineOperator):
    """Take a candidate out of the traffic, or move back to an earlier version.

    Returns ``{name, version, previous, reason}``. Idempotent: where it goes is decided once per run, every act is
    repeated harmlessly until the ledger says ``rolled_back``; after that, and in a concluded run, nothing is touched.

    :param to: ``champion``: end this run's rollout, the champion takes all traffic (and gets its alias back if this run
        had moved it); ``previous``, or empty: make the version that was champion before the current one champion
        again; or a version number.
    :param reason: why, in a sentence; required to move the champion.
    :param serving_conn_id: the model server's connection; none: nothing is served.
    """

    template_fields = (*PipelineOperator.template_fields, "to", "reason", "serving_conn_id")
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
