"""CloudWatch's metrics of an endpoint's variants as statistics of versions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from mlretrain.errors import ConfigError, TransientError
from mlretrain.ports import VersionStats
from mlretrain.wire import utc
from mlretrain_provider.backends.aws import AwsCaller
from mlretrain_provider.targets.sagemaker_names import variant_of

NAMESPACE = "AWS/SageMaker"
MINUTE_S = 60
LONGEST_PERIOD_S = 86_400

_COUNTS = {
    "requests": "Invocations",
    "errors_4xx": "Invocation4XXErrors",
    "errors_5xx": "Invocation5XXErrors",
}
_LATENCIES = {"model": "ModelLatency", "overhead": "OverheadLatency"}
"""Microseconds: https://docs.aws.amazon.com/sagemaker/latest/dg/monitoring-cloudwatch.html"""
_PERCENTILES = ("p50", "p95", "p99")
_US_PER_MS = 1000.0

Values = Mapping[str, Sequence[float]]


def version_stats(
    client: Any, call: AwsCaller, endpoint: str, versions: Sequence[str], since: datetime, now: datetime
) -> dict[str, VersionStats]:
    """What CloudWatch has counted for each version since ``since``, which is rounded down to the minute.

    CloudWatch counts by the minute and tells of a minute after it, so the last one or two are missing. All
    latencies since are asked for as one period, as percentiles of parts cannot be put together; a span of
    more than a day has several periods, and the worst one is told. A percentile is the sum of the
    container's and SageMaker's own, which is seldom reached: the slow ones of both need not coincide.

    :raises TransientError: CloudWatch does not answer for all of it.
    """
    begin = utc(since).replace(second=0, microsecond=0)
    end = utc(now).replace(second=0, microsecond=0) + timedelta(seconds=MINUTE_S)
    if not versions or begin >= end:
        return {}
    queries = list(_queries(endpoint, versions, _period_s(begin, end)))
    values = _ask(client, call, queries, begin, end, where=f"CloudWatch metrics of {endpoint}")
    return {version: _stats(f"v{index}", values) for index, version in enumerate(versions)}


def _period_s(begin: datetime, end: datetime) -> int:
    minutes = math.ceil((end - begin).total_seconds() / MINUTE_S)
    return min(minutes * MINUTE_S, LONGEST_PERIOD_S)


def _queries(endpoint: str, versions: Sequence[str], period_s: int) -> Iterator[dict[str, Any]]:
    for index, version in enumerate(versions):
        asked = [(name, metric, "Sum") for name, metric in _COUNTS.items()]
        asked += [(f"{name}_{p}", metric, p) for name, metric in _LATENCIES.items() for p in _PERCENTILES]
        for name, metric, statistic in asked:
            yield {
                "Id": f"v{index}_{name}",
                "MetricStat": {
                    "Metric": {
                        "Namespace": NAMESPACE,
                        "MetricName": metric,
                        "Dimensions": [
                            {"Name": "EndpointName", "Value": endpoint},
                            {"Name": "VariantName", "Value": variant_of(version)},
                        ],
                    },
                    "Period": period_s,
                    "Stat": statistic,
                },
            }


def _ask(
    client: Any, call: AwsCaller, queries: Sequence[Any], begin: datetime, end: datetime, *, where: str
) -> Values:
    request: dict[str, Any] = {"MetricDataQueries": queries, "StartTime": begin, "EndTime": end}
    values: dict[str, list[float]] = {}
    while True:
        answer = call(lambda: client.get_metric_data(**request), where=where) or {}
        for each in answer.get("MetricDataResults", ()):
            if each.get("StatusCode") == "Forbidden":
                raise ConfigError(
                    "AWS denies access",
                    where=where,
                    remedy="Allow cloudwatch:GetMetricData to the connection.",
                )
            if each.get("StatusCode") == "InternalError":
                raise TransientError("CloudWatch failed", where=where, found=each["Id"])
            values.setdefault(each["Id"], []).extend(each.get("Values", ()))
        if not answer.get("NextToken"):
            return values
        request["NextToken"] = answer["NextToken"]


def _stats(name: str, values: Values) -> VersionStats:
    def total(metric: str) -> int:
        return round(sum(values.get(f"{name}_{metric}", ())))

    def latency_ms(percentile: str) -> float | None:
        model = values.get(f"{name}_model_{percentile}", ())
        overhead = values.get(f"{name}_overhead_{percentile}", ())
        return (max(model) + max(overhead, default=0.0)) / _US_PER_MS if model else None

    return VersionStats(
        requests=total("requests"),
        errors=total("errors_4xx") + total("errors_5xx"),
        latency_p50_ms=latency_ms("p50"),
        latency_p95_ms=latency_ms("p95"),
        latency_p99_ms=latency_ms("p99"),
    )


def utc_now() -> datetime:
    """The instant that statistics end at."""
    return datetime.now(UTC)
