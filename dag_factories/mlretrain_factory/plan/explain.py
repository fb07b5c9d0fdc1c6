"""A plan in words, for the command line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mlretrain_factory.plan.model import OUTPUT, DagPlan, Plan, SchedulePlan, TaskPlan


def explain(plan: Plan) -> str:
    """What each DAG of the plan does, task by task."""
    return "\n\n".join([f"{plan.pipeline} (plan {plan.digest})", *(_dag(dag) for dag in plan.dags)]) + "\n"


def _dag(dag: DagPlan) -> str:
    lines = [f"{dag.dag_id}: {_when(dag.schedule)}", *_where(dag), *_served(dag)]
    lines += [f"  {line}" for line in dag.doc_md.splitlines() if line.startswith("- ")]
    lines += [f"  {i:2}. {_task(task)}" for i, task in enumerate(dag.tasks, start=1)]
    return "\n".join(lines)


def _when(schedule: SchedulePlan | None) -> str:
    if schedule is None:
        return "started by hand"
    if schedule.cron:
        return f"{schedule.cron} ({schedule.timezone})"
    return f"when updated: {', '.join(schedule.assets)}"


def _where(dag: DagPlan) -> list[str]:
    """The backend of the jobs and its options; nothing for a DAG without jobs."""
    if "backend" not in dag.defaults:
        return []
    names = ("image", "poll_s", "deferrable")
    options = {**dag.defaults.get("backend_options", {})}
    options |= {name: dag.defaults[name] for name in names if name in dag.defaults}
    told = ", ".join(f"{name}={_value(value)}" for name, value in sorted(options.items()))
    return [f"  jobs on {dag.defaults['backend']}{f': {told}' if told else ''}"]


def _served(dag: DagPlan) -> list[str]:
    """The serving target and its options; nothing for a DAG that asks none."""
    serving = next((dict(task.args["serving"]) for task in dag.tasks if "serving" in task.args), None)
    if serving is None:
        return []
    target = serving.pop("target")
    told = ", ".join(f"{name}={_value(value)}" for name, value in sorted(serving.items()))
    return [f"  served by {target}{f': {told}' if told else ''}"]


def _task(task: TaskPlan) -> str:
    rule = {"one_failed": "if one failed: ", "none_failed": "if none failed: "}.get(task.trigger_rule, "")
    after = f" after {rule}{', '.join(task.upstream)}" if task.upstream else ""
    always = ", always" if task.teardown else ""
    args = ", ".join(f"{name}={_told(name, value)}" for name, value in sorted(task.args.items()))
    return f"{task.task_id}{after}{always}: {task.operator}({args})"


def _told(name: str, value: Any) -> str:
    """An argument; of what the whole DAG shares, the name alone."""
    match name:
        case "serving":
            return str(value["target"])
        case "policies":
            return f"[{', '.join(each['name'] for each in value)}]"
    return _value(value)


def _value(value: Any) -> str:
    if isinstance(value, Mapping) and OUTPUT in value:
        return f"<{value[OUTPUT]}>"
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
