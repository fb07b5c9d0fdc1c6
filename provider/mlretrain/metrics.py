"""Which way a metric is better: the one table that gates, evaluation and reports agree on."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from mlretrain.errors import ConfigError

HIGHER_IS_BETTER: Mapping[str, bool] = MappingProxyType(
    {
        "roc_auc": True,
        "log_loss": False,
        "accuracy": True,
        "f1": True,
        "precision": True,
        "recall": True,
        "brier": False,
        "ece": False,
        "rmse": False,
        "mae": False,
        "r2": True,
        "mape": False,
    }
)
"""What predictions are worth, computed from predictions and truth."""

LATENCY = MappingProxyType({"latency_p50_ms": 0.50, "latency_p95_ms": 0.95, "latency_p99_ms": 0.99})
"""The share of single predictions that take at most so many milliseconds."""

MODEL_SIZE = "model_size_mb"

COSTS = (*LATENCY, MODEL_SIZE)
"""What a model's use costs. Evaluations measure it unasked; smaller is better."""


def higher_is_better(name: str) -> bool:
    """Whether a larger value of the metric is better. Raises :class:`ConfigError` for an unknown metric."""
    if name in COSTS:
        return False
    if name not in HIGHER_IS_BETTER:
        raise ConfigError(
            "unknown metric",
            found=name,
            allowed=", ".join((*HIGHER_IS_BETTER, *COSTS)),
            remedy="Use one of the allowed metrics.",
        )
    return HIGHER_IS_BETTER[name]
