"""The server's Prometheus metrics, per model and version."""

from __future__ import annotations

from typing import Any

from mlretrain.ports import Traffic
from mlretrain.serving.compare import Comparison

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class ServerMetrics:
    """Counters in a registry of their own, so that one process may hold several servers."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        labels = ("model", "version")
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "mlretrain_requests_total", "Requests answered", (*labels, "code"), registry=self._registry
        )
        self._seconds = Histogram(
            "mlretrain_request_seconds",
            "Time to the answer",
            labels,
            buckets=BUCKETS_S,
            registry=self._registry,
        )
        self._weight = Gauge(
            "mlretrain_weight", "Percentage of requests in force", labels, registry=self._registry
        )
        self._copies = Counter(
            "mlretrain_mirrored_requests_total",
            "Copies answered",
            (*labels, "code"),
            registry=self._registry,
        )
        self._copy_seconds = Histogram(
            "mlretrain_mirrored_seconds",
            "Time to the answer to a copy",
            labels,
            buckets=BUCKETS_S,
            registry=self._registry,
        )
        self._copies_dropped = Counter(
            "mlretrain_mirrored_dropped_total",
            "Copies that were not answered for want of room or time",
            labels,
            registry=self._registry,
        )
        self._copied_rows = Counter(
            "mlretrain_mirrored_rows_total",
            "Rows compared with what was served",
            (*labels, "answer"),
            registry=self._registry,
        )
        self._logged = Counter(
            "mlretrain_predictions_logged_total", "Rows put on disk", ("model",), registry=self._registry
        )
        self._dropped = Counter(
            "mlretrain_predictions_dropped_total",
            "Rows that the prediction log had no room for",
            ("model",),
            registry=self._registry,
        )
        self._mirrored = Gauge(
            "mlretrain_mirrored", "Percentage of requests copied", labels, registry=self._registry
        )
        self._shown: dict[tuple[Any, str], set[str]] = {}

    def request(self, model: str, version: str, code: int, latency_s: float) -> None:
        """Count one answered request."""
        self._requests.labels(model, version, str(code)).inc()
        self._seconds.labels(model, version).observe(latency_s)

    def traffic(self, model: str, traffic: Traffic) -> None:
        """Show the traffic in force; versions that are not in it disappear."""
        for gauge, shares in ((self._weight, traffic.weights), (self._mirrored, traffic.mirrored)):
            for version in self._shown.get((gauge, model), set()) - set(shares):
                gauge.remove(model, version)
            for version, share in shares.items():
                gauge.labels(model, version).set(share)
            self._shown[gauge, model] = set(shares)

    def mirrored(self, model: str, version: str, code: int, latency_s: float) -> None:
        """Count one answered copy."""
        self._copies.labels(model, version, str(code)).inc()
        self._copy_seconds.labels(model, version).observe(latency_s)

    def mirror_dropped(self, model: str, version: str) -> None:
        """Count one copy that will not be answered."""
        self._copies_dropped.labels(model, version).inc()

    def compared(self, model: str, version: str, comparison: Comparison) -> None:
        """Count rows that were answered by two versions."""
        self._copied_rows.labels(model, version, "different").inc(comparison.differing)
        self._copied_rows.labels(model, version, "same").inc(comparison.rows - comparison.differing)

    def logged(self, model: str, rows: int) -> None:
        """Count rows of the prediction log that are on disk."""
        self._logged.labels(model).inc(rows)

    def dropped(self, model: str, rows: int) -> None:
        """Count rows that are lost to the prediction log."""
        self._dropped.labels(model).inc(rows)

    def text(self) -> bytes:
        """The exposition format."""
        from prometheus_client import generate_latest

        return generate_latest(self._registry)
