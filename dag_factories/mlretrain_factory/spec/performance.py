"""How good the champion's answers were, once it is known what was right."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from mlretrain.metrics import HIGHER_IS_BETTER
from mlretrain_factory.spec.data import Format
from mlretrain_factory.spec.evaluation import Metric
from mlretrain_factory.spec.quantity import Duration
from mlretrain_factory.spec.section import Section, Uri, fault


def _read_columns(value: Any) -> Any:
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


Columns = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...],
    Field(min_length=1),
    BeforeValidator(_read_columns, json_schema_input_type=str | list[str]),
]
"""The name of a column, or of several."""


class LabelsSpec(Section):
    """Where the truth about earlier predictions arrives, and how late."""

    uri: Uri = Field(description="A file, a glob or a folder, `file:///…` or `s3://…`. Templated.")
    join_on: Columns = Field(
        description="Column that names a row, in the labels and in the predictions; or several, as a list."
    )
    delay: Duration = Field(description="How long after a prediction its label is there.")
    column: str | None = Field(
        default=None, min_length=1, description="Column with the truth; left out: `data.target`."
    )
    time_column: str | None = Field(
        default=None, min_length=1, description="Column with each label's time; left out: all files are read."
    )
    format: Format | None = Field(default=None, description="Left out: by the files' names.")


class PerformanceSpec(Section):
    """The quality of the champion's answers: on labels, and estimated as long as they are missing."""

    labels: LabelsSpec = Field(description="Where the truth arrives, and how late.")
    metric: Metric = Field(description="What is measured.")
    min: float | None = Field(default=None, description="A window below this is violated, noise allowed for.")
    max_drop: float | None = Field(
        default=None,
        ge=0,
        description="A window worse than the champion's own evaluation by more than this is violated.",
    )
    min_coverage: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="Least share of the predictions with a label; with fewer, labels say nothing.",
    )
    estimate: Literal["auto", "never"] = Field(
        default="auto",
        description="`auto`: estimate from the answers' confidence until there are labels; `never`: wait.",
    )
    confidence: float = Field(
        default=0.95, gt=0.5, lt=1, description="Level of the interval around what was measured."
    )

    @model_validator(mode="after")
    def _asks_something(self) -> PerformanceSpec:
        if self.min is None and self.max_drop is None:
            remedy = "Add `max_drop: 0.05`, or `min`."
            raise fault("nothing that performance must hold", remedy=remedy, allowed="min, max_drop")
        if self.min is not None and not HIGHER_IS_BETTER[self.metric]:
            raise fault(
                f"a lower `{self.metric}` is better, so it has no least value",
                at=("min",),
                remedy="Use `max_drop`: how much worse than in the champion's own evaluation it may be.",
            )
        return self
