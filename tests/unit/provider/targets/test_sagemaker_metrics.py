"""Statistics of variants, from moto's CloudWatch; its percentiles are the fixture's own."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

pytest.importorskip("airflow.providers.amazon")

from mlretrain.errors import ConfigError, TransientError
from mlretrain.ports import Traffic, VersionStats
from mlretrain_provider.backends.aws import AwsCaller
from mlretrain_provider.targets.sagemaker_metrics import version_stats
from tests.fixtures_endpoints import FakeEndpoints, fake_endpoints, put_metrics

pytestmark = pytest.mark.airflow

NOW = datetime(2026, 11, 3, 12, 30, 20, tzinfo=UTC)


@pytest.fixture(scope="module")
def aws() -> Iterator[FakeEndpoints]:
    with fake_endpoints() as fake:
        yield fake


def caller() -> AwsCaller:
    return AwsCaller(conn_id="aws_default", sleep=lambda _seconds: None, jitter=lambda: 0.0)


def test_each_version_has_its_own_statistics(aws: FakeEndpoints) -> None:
    target = aws.target(now=lambda: NOW)
    target.apply("each", Traffic(weights={"1": 100}, mirrored={"2": 10}, generation=1))
    latencies = {"ModelLatency": [1000.0 * each for each in range(1, 101)], "OverheadLatency": [500.0] * 100}
    counts = {"Invocations": [1.0] * 100, "Invocation4XXErrors": [1.0] * 2, "Invocation5XXErrors": [1.0]}
    put_metrics(aws, "each", "1", NOW - timedelta(minutes=5), {**counts, **latencies})
    put_metrics(aws, "each", "2", NOW - timedelta(minutes=5), {"Invocations": [1.0] * 7})

    assert target.metrics("each", NOW - timedelta(minutes=10)) == {
        "1": VersionStats(
            requests=100, errors=3, latency_p50_ms=50.5, latency_p95_ms=95.5, latency_p99_ms=99.5
        ),
        "2": VersionStats(requests=7),
    }


def test_what_was_before_does_not_count_but_for_the_minute_it_began_in(aws: FakeEndpoints) -> None:
    target = aws.target(now=lambda: NOW)
    target.apply("since", Traffic(weights={"1": 100}, generation=1))
    for minute, second in ((10, 59), (11, 0), (11, 30)):
        put_metrics(aws, "since", "1", NOW.replace(minute=minute, second=second), {"Invocations": [1.0]})

    assert target.metrics("since", NOW.replace(minute=11, second=20))["1"].requests == 2


def test_a_model_that_is_not_there_has_no_statistics(aws: FakeEndpoints) -> None:
    assert aws.target().metrics("unknown", NOW) == {}


def test_a_span_of_days_adds_counts_and_tells_the_worst_latency(aws: FakeEndpoints) -> None:
    for days, latency in ((1.5, 9000.0), (0.5, 3000.0)):
        at = NOW - timedelta(days=days)
        put_metrics(aws, "days", "1", at, {"Invocations": [1.0], "ModelLatency": [latency]})
    stats = version_stats(aws.client("cloudwatch"), caller(), "days", ["1"], NOW - timedelta(days=2), NOW)

    assert (stats["1"].requests, stats["1"].latency_p95_ms) == (2, 9.0)


class Pages:
    """A CloudWatch that answers in pages, or not for all that is asked."""

    def __init__(self, *pages: dict[str, Any]) -> None:
        self.pages = list(pages)
        self.tokens: list[str | None] = []

    def get_metric_data(self, **request: Any) -> dict[str, Any]:
        self.tokens.append(request.get("NextToken"))
        return self.pages.pop(0)


def result(status: str = "Complete", *values: float) -> dict[str, Any]:
    return {"Id": "v0_requests", "StatusCode": status, "Values": list(values)}


def stats_of(client: Pages) -> VersionStats:
    return version_stats(client, caller(), "m", ["1"], NOW - timedelta(hours=1), NOW)["1"]


def test_all_pages_are_turned() -> None:
    client = Pages(
        {"MetricDataResults": [result("PartialData", 3.0)], "NextToken": "2"},
        {"MetricDataResults": [result("Complete", 4.0)]},
    )

    assert stats_of(client).requests == 7
    assert client.tokens == [None, "2"]


def test_what_cloudwatch_does_not_tell_is_not_taken_for_nothing() -> None:
    with pytest.raises(ConfigError, match="GetMetricData"):
        stats_of(Pages({"MetricDataResults": [result("Forbidden")]}))
    with pytest.raises(TransientError, match="CloudWatch failed"):
        stats_of(Pages({"MetricDataResults": [result("InternalError")]}))
