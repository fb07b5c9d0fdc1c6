"""What is scored, by whom and where the scores are, for the people who see it in Airflow."""

from __future__ import annotations

from mlretrain_factory.loader import PipelineSource
from mlretrain_factory.plan.wording import named
from mlretrain_factory.spec.quantity import format_duration
from mlretrain_factory.spec.serving import BatchServingSpec


def describe_scoring(source: PipelineSource) -> list[str]:
    """One sentence a line; nothing for a pipeline that scores nothing."""
    score = source.spec.score
    if score is None:
        return []
    window = f", the last {format_duration(score.data.window)}" if score.data.window else ""
    column = score.output.partition_by
    part = f"a value of `{column}`, times by their date" if column else "a file of the data"
    ordered = isinstance(source.stack.serving, BatchServingSpec) and source.spec.deploy.strategy != "none"
    key = named(score.key, "and") if score.key else "all its columns"
    who = (
        f"Rows are shared out between the versions that serve, by a hash of {key}."
        if ordered
        else "The champion scores every row."
    )
    return [
        f"Scores `{score.data.uri}`{window}; the scores are in `{score.output.uri}`.",
        who,
        f"A partition is {part}; it appears whole, and `_SUCCESS` after the last one.",
        "A run that is repeated scores only what is missing or has changed.",
    ]
