"""Tasks that score data in batches."""

from __future__ import annotations

from mlretrain_factory.loader import PipelineSource
from mlretrain_factory.plan import rules
from mlretrain_factory.plan.jobs import evaluation_job
from mlretrain_factory.plan.model import SchedulePlan, TaskPlan, output
from mlretrain_factory.plan.serving import serving


def scoring_tasks(source: PipelineSource) -> list[TaskPlan]:
    """From the data to the scores; none if the pipeline scores nothing."""
    score = source.spec.score
    if score is None:
        return []
    return [
        TaskPlan(task_id="resolve_data", operator="ResolveDataOperator", args=rules.data_window(score.data)),
        TaskPlan(
            task_id="score",
            operator="ScoreDataOperator",
            args={
                "dataset": output("resolve_data"),
                "output_uri": score.output.uri,
                **rules.optional("key", score.key and list(score.key)),
                **rules.optional("columns", score.output.columns and list(score.output.columns)),
                **rules.optional("partition_by", score.output.partition_by),
                **serving(source),
                **evaluation_job(source, score.resources),
            },
            upstream=("resolve_data",),
        ),
    ]


def scoring_schedule(source: PipelineSource) -> SchedulePlan | None:
    """When it runs by itself."""
    schedule = source.spec.score.schedule if source.spec.score else None
    if schedule is None:
        return None
    champion = (f"x-mlretrain://{source.spec.pipeline}/champion",) if schedule.on_promotion else ()
    return SchedulePlan(
        cron=schedule.cron, timezone=schedule.timezone, assets=(*schedule.on_assets, *champion)
    )
