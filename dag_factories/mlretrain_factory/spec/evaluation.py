"""How candidate and champion are scored on the same holdout."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from mlretrain.metrics import HIGHER_IS_BETTER
from mlretrain_factory.errors import nearest
from mlretrain_factory.spec.resources import Resources
from mlretrain_factory.spec.section import Section, fault


def _check_metric(value: str) -> str:
    if value not in HIGHER_IS_BETTER:
        known = ", ".join(sorted(HIGHER_IS_BETTER))
        raise fault(
            "unknown metric",
            remedy=nearest(value, HIGHER_IS_BETTER, "Choose one of these."),
            found=f"'{value}'",
            allowed=known,
        )
    return value


Metric = Annotated[str, AfterValidator(_check_metric)]
"""The name of a quality metric."""


class LatencySpec(Section):
    """How prediction latency is measured."""

    rows: int = Field(default=200, ge=20, le=100_000, description="Rows of the holdout, one at a time.")


class EvaluationSpec(Section):
    """Metrics on the holdout."""

    metrics: tuple[Metric, ...] = Field(min_length=1, description="Metrics to compute.")
    slices: tuple[str, ...] = Field(
        default=(), description="Columns by whose values the metrics are also computed."
    )
    importance: Literal["auto", "permutation", "native", "none"] = Field(
        default="auto",
        description="How much each column matters, by which drift is weighted: `permutation` of its values, "
        "the model's `native` figures, `auto`: whichever it has, `none`: all alike.",
    )
    latency: LatencySpec | None = Field(
        default=None,
        description="How the latencies that gates may ask for are measured; left out: on 200 rows.",
    )
    resources: Resources | None = Field(
        default=None, description="A class of the stack, or `{class, cpu, memory, gpu}`."
    )
