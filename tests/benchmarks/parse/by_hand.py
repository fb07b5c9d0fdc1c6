"""The Python file that somebody would have written instead of a pipeline's YAML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mlretrain_factory.plan.model import OUTPUT, DagPlan, Plan, TaskPlan
from mlretrain_factory.to_airflow import OPERATORS

HEADER = """\
from datetime import timedelta

from airflow.sdk import DAG, CronTriggerTimetable, Param, TaskGroup

"""


def source(plan: Plan) -> str:
    """Python that makes the plan's DAGs with the provider's operators, and without the factory."""
    used = sorted({task.operator for dag in plan.dags for task in dag.tasks})
    imports = [f"from {OPERATORS[name].replace(':', ' import ')}" for name in used]
    return HEADER + "\n".join([*imports, "", *(line for dag in plan.dags for line in _dag(dag))]) + "\n"


def _dag(dag: DagPlan) -> Iterator[str]:
    schedule = dag.schedule
    cron = f"CronTriggerTimetable({schedule.cron!r}, timezone={schedule.timezone!r})" if schedule else None
    yield "with DAG("
    yield f"    {dag.dag_id!r}, description={dag.description!r}, doc_md={dag.doc_md!r},"
    yield f"    schedule={cron}, catchup=False, max_active_runs=1, tags={set(dag.tags)!r},"
    yield f"    params={{{', '.join(_param(dag, name) for name in dag.form)}}},"
    defaults = {"owner": dag.owner, **dag.defaults}
    yield f"    default_args={{'retry_delay': timedelta(seconds=30), **{defaults!r}}},"
    yield f") as {dag.kind}_dag:"
    groups: set[str] = set()
    for task in dag.tasks:
        yield from (f"    {line}" for line in _task(task, groups))


def _param(dag: DagPlan, name: str) -> str:
    field = dag.form[name]
    kind = list(field.type) if len(field.type) > 1 else field.type[0]
    value = "minLength=1" if field.required else f"{field.default!r}"
    schema = f"type={kind!r}, title={field.title!r}, description={field.description!r}"
    return f"{name!r}: Param({schema}, {value})" if field.required else f"{name!r}: Param({value}, {schema})"


def _task(task: TaskPlan, groups: set[str]) -> Iterator[str]:
    *parents, name = task.task_id.split(".")
    for i in range(1, len(parents) + 1):
        group = "_".join(parents[:i])
        if group not in groups:
            groups.add(group)
            parent = f", parent_group={'_'.join(parents[: i - 1])}" if i > 1 else ""
            yield f"{group} = TaskGroup({parents[i - 1]!r}{parent})"
    args = {key: _argument(value) for key, value in sorted(task.args.items())}
    args |= {"trigger_rule": repr(task.trigger_rule)} if not task.teardown else {}
    args |= {"retries": repr(task.retries)} if task.retries is not None else {}
    args |= {"execution_timeout": f"timedelta(seconds={task.timeout_s})"} if task.timeout_s else {}
    args |= {"task_group": "_".join(parents)} if parents else {}
    written = "".join(f", {key}={value}" for key, value in args.items())
    yield f"{_variable(task.task_id)} = {task.operator}(task_id={name!r}{written})"
    if task.upstream:
        yield f"[{', '.join(_variable(each) for each in task.upstream)}] >> {_variable(task.task_id)}"
    if task.teardown:
        yield f"{_variable(task.task_id)}.as_teardown()"


def _argument(value: Any) -> str:
    if isinstance(value, Mapping) and OUTPUT in value:
        return f"{_variable(value[OUTPUT])}.output"
    return repr(value)


def _variable(task_id: str) -> str:
    return "task_" + task_id.replace(".", "_")
