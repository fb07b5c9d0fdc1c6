"""The server's Prometheus metrics, per model and version."""

from __future__ import annotations

from collections.abc import Mapping

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
        self._logged = Counter(
            "mlretrain_predictions_logged_total", "Rows put on disk", ("model",), registry=self._registry
        )
        self._dropped = Counter(
            "mlretrain_predictions_dropped_total",
            "Rows that the prediction log had no room for",
            ("model",),
            registry=self._registry,
        )
        self._weights: dict[str, set[str]] = {}

    def request(self, model: str, version: str, code: int, latency_s: float) -> None:
        """Count one answered request."""
        self._requests.labels(model, version, str(code)).inc()
        self._seconds.labels(model, version).observe(latency_s)

    def weights(self, model: str, weights: Mapping[str, int]) -> None:
        """Show the weights in force; versions without one disappear."""
        for version in self._weights.get(model, set()) - set(weights):
            self._weight.remove(model, version)
        for version, weight in weights.items():
            self._weight.labels(model, version).set(weight)
        self._weights[model] = set(weights)

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
