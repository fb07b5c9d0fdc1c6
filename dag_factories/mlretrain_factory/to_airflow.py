"""Plans to Airflow DAGs. The only module here that imports Airflow and the provider."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, MutableMapping
from datetime import timedelta
from functools import cache
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, BaseOperator, CronTriggerTimetable, Param, TaskGroup, get_parsing_context
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowFailException

from mlretrain_factory.errors import SpecErrors
from mlretrain_factory.loader import LoadResult, load_folder, load_source, pipeline_files, pipeline_name
from mlretrain_factory.plan.build import build_plan
from mlretrain_factory.plan.model import OUTPUT, DagPlan, Notification, SchedulePlan, TaskPlan
from mlretrain_factory.policies import VARIABLE
from mlretrain_provider.assets import asset_at
from mlretrain_provider.plugins.policy import set_source

if TYPE_CHECKING:
    from airflow.sdk import Context

OPERATORS = {
    "ResolveDataOperator": "mlretrain_provider.operators.data:ResolveDataOperator",
    "ValidateDataOperator": "mlretrain_provider.operators.data:ValidateDataOperator",
    "DataGateOperator": "mlretrain_provider.operators.data:DataGateOperator",
    "TrainModelOperator": "mlretrain_provider.operators.training:TrainModelOperator",
    "TuneModelOperator": "mlretrain_provider.operators.tuning:TuneModelOperator",
    "EvaluateModelOperator": "mlretrain_provider.operators.training:EvaluateModelOperator",
    "RegisterModelOperator": "mlretrain_provider.operators.registry:RegisterModelOperator",
    "SmokeTestOperator": "mlretrain_provider.operators.smoke:SmokeTestOperator",
    "PromotionGateOperator": "mlretrain_provider.operators.registry:PromotionGateOperator",
    "ApprovePromotionOperator": "mlretrain_provider.operators.approval:ApprovePromotionOperator",
    "PromoteModelOperator": "mlretrain_provider.operators.registry:PromoteModelOperator",
    "DeployModelOperator": "mlretrain_provider.operators.deployment:DeployModelOperator",
    "DeploymentHealthSensor": "mlretrain_provider.sensors.deployment:DeploymentHealthSensor",
    "CanaryGateOperator": "mlretrain_provider.operators.deployment:CanaryGateOperator",
    "RollBackModelOperator": "mlretrain_provider.operators.deployment:RollBackModelOperator",
    "ProfileDataOperator": "mlretrain_provider.operators.profiling:ProfileDataOperator",
    "ProfileTableOperator": "mlretrain_provider.operators.table:ProfileTableOperator",
    "DetectDriftOperator": "mlretrain_provider.operators.monitoring:DetectDriftOperator",
    "MeasurePerformanceOperator": "mlretrain_provider.operators.performance:MeasurePerformanceOperator",
    "RetrainPolicyOperator": "mlretrain_provider.operators.retraining:RetrainPolicyOperator",
    "TriggerRetrainOperator": "mlretrain_provider.operators.retraining:TriggerRetrainOperator",
    "ScoreDataOperator": "mlretrain_provider.operators.scoring:ScoreDataOperator",
    "RecordRunOperator": "mlretrain_provider.operators.record:RecordRunOperator",
}
"""What each operator of a plan is made of, loaded on use."""

RETRY_DELAY = timedelta(seconds=30)
BROKEN = "broken"
ASKED = "approval_needed"


def load(path: str | Path, root: Path | None = None) -> list[DAG]:
    """The DAGs of one pipeline file; in a worker only the one that it runs.

    Raises :class:`SpecErrors`, whose text is one line for each fault.

    :param root: the highest folder that is searched for defaults and stacks; none: the project's.
    """
    file = Path(path).absolute()
    wanted = get_parsing_context().dag_id
    try:
        plan = build_plan(load_source(file, _environ(), root))
    except SpecErrors as problem:
        raise problem.with_traceback(None) from None
    return [to_dag(dag, file) for dag in plan.dags if wanted in (None, dag.dag_id)]


def load_airflow_dags(namespace: MutableMapping[str, Any], folder: str | Path | None = None) -> None:
    """Put the DAGs of every ``*.pipeline.yaml`` below ``folder`` into a loader file's ``globals()``.

    A broken file becomes the DAG ``<file>.broken``, which shows its faults, and hides no other.

    :param folder: none: the loader file's own.
    """
    root = Path(folder or Path(namespace["__file__"]).parent).absolute()
    wanted = get_parsing_context().dag_id
    result = load_folder(root, _environ(), files=_files_of(wanted, root) if wanted else None)
    for dag in _dags(result, root, wanted):
        namespace[dag.dag_id] = dag


def _environ() -> dict[str, str]:
    """The process's environment, with the folder of policies that Airflow's configuration names."""
    policies = conf.get("mlretrain", "policies", fallback="")
    return {**os.environ, **({VARIABLE: policies} if policies else {})}


def to_dag(plan: DagPlan, path: Path, code_root: str | None = None) -> DAG:
    """The Airflow DAG of a plan.

    :param path: the YAML file, which Airflow's Code tab shows.
    :param code_root: folder of the user's code, relative to the file that Airflow lists.
    """
    defaults = {**_sorted(plan.defaults), **({"code_root": code_root} if code_root else {})}
    dag = DAG(
        dag_id=plan.dag_id,
        description=plan.description or None,
        doc_md=plan.doc_md,
        schedule=_schedule(plan.schedule),
        catchup=False,
        max_active_runs=plan.max_active_runs,
        tags=set(plan.tags),
        params={name: _param(plan, name) for name in plan.form},
        default_args={"owner": plan.owner, "retry_delay": RETRY_DELAY, **defaults},
    )
    set_source(dag, str(path))
    groups: dict[str, TaskGroup] = {}
    tasks: dict[str, BaseOperator] = {}
    for task in plan.tasks:
        tasks[task.task_id] = _operator(task, dag, _group(task.task_id, dag, groups), tasks)
    _announce(plan, tasks)
    return dag


def _operator(
    plan: TaskPlan, dag: DAG, group: TaskGroup | None, tasks: Mapping[str, BaseOperator]
) -> BaseOperator:
    options: dict[str, Any] = {"trigger_rule": plan.trigger_rule} if not plan.teardown else {}
    if plan.retries is not None:
        options["retries"] = plan.retries
    if plan.timeout_s is not None:
        options["execution_timeout"] = timedelta(seconds=plan.timeout_s)
    args = {name: _argument(value, tasks) for name, value in sorted(plan.args.items())}
    task_id = plan.task_id.rpartition(".")[2]
    task: BaseOperator = _operator_class(plan.operator)(
        task_id=task_id, dag=dag, task_group=group, **args, **options
    )
    task.set_upstream([tasks[name] for name in plan.upstream])
    if plan.teardown:
        task.as_teardown()
    return task


@cache
def _operator_class(name: str) -> type[BaseOperator]:
    found: type[BaseOperator] = resolve_name(OPERATORS[name])
    return found


def _argument(value: Any, tasks: Mapping[str, BaseOperator]) -> Any:
    if isinstance(value, Mapping) and OUTPUT in value:
        return tasks[value[OUTPUT]].output
    return _sorted(value)


def _sorted(value: Any) -> Any:
    """The same value whatever the order of keys in the file, so that it serialises to the same bytes."""
    if isinstance(value, Mapping):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(each) for each in value] if isinstance(value, (list, tuple)) else value


def _group(task_id: str, dag: DAG, groups: dict[str, TaskGroup]) -> TaskGroup | None:
    name = task_id.rpartition(".")[0]
    if not name:
        return None
    if name not in groups:
        parent = _group(name, dag, groups) or dag.task_group
        groups[name] = TaskGroup(name.rpartition(".")[2], dag=dag, parent_group=parent)
    return groups[name]


def _schedule(plan: SchedulePlan | None) -> Any:
    if plan is None:
        return None
    if plan.cron:
        return CronTriggerTimetable(plan.cron, timezone=plan.timezone)
    return [asset_at(uri) for uri in plan.assets]


def _param(plan: DagPlan, name: str) -> Param:
    field = plan.form[name]
    kind = list(field.type) if len(field.type) > 1 else field.type[0]
    schema: dict[str, Any] = {"type": kind, "title": field.title, "description": field.description}
    return Param(**schema, minLength=1) if field.required else Param(field.default, **schema)


def _announce(plan: DagPlan, tasks: Mapping[str, BaseOperator]) -> None:
    """Tell the notifiers when people are asked, and after the last task, which knows how the run ended."""
    callbacks: list[Any] = [_Announcement(each) for each in plan.notify if {*each.on} - {ASKED}]
    if callbacks:
        tasks["record"].on_success_callback = callbacks
        tasks["record"].on_failure_callback = callbacks
    if "approve" in tasks:
        asked: Any = tasks["approve"]
        asked.notifiers = [_Question(each) for each in plan.notify if ASKED in each.on]


class _Announcement:
    """A callback that loads its notifier only when there is something to tell."""

    def __init__(self, plan: Notification) -> None:
        self.plan = plan

    def __call__(self, context: Context) -> None:
        record = context["ti"].xcom_pull(task_ids=context["ti"].task_id) or {}
        event = "failed" if context.get("exception") else record.get("event")
        if event in self.plan.on:
            _tell(self.plan, context)


class _Question:
    """Tells that a task waits for people's answer."""

    def __init__(self, plan: Notification) -> None:
        self.plan = plan

    def __call__(self, context: Context) -> None:
        _tell(self.plan, context)


def _tell(plan: Notification, context: Context) -> None:
    resolve_name(plan.notifier)(**plan.args)(context)


class BrokenPipelineOperator(BaseOperator):
    """Stands for a pipeline file that cannot be read, and fails with what is wrong in it.

    :param message: one line for each fault.
    """

    template_fields = ("message",)
    ui_color = "#fecaca"

    def __init__(self, *, message: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.message = message

    def render_template_fields(self, context: Context, jinja_env: Any = None) -> None:
        """Nothing: the message quotes what people wrote, which is no template of ours."""

    def execute(self, context: Context) -> None:
        raise AirflowFailException(self.message)


def _dags(result: LoadResult, root: Path, wanted: str | None) -> Iterator[DAG]:
    for source in result.sources:
        folder = source.path.parent.relative_to(root).as_posix()
        code_root = folder if folder != "." else None
        for plan in build_plan(source).dags:
            if wanted in (None, plan.dag_id):
                yield to_dag(plan, source.path, code_root)
    for path, problem in result.errors.items():
        if wanted not in (None, _broken_id(path, root)):
            raise problem.with_traceback(None) from None
        yield _broken_dag(path, root, problem)


def _files_of(dag_id: str, root: Path) -> list[Path]:
    """The only files that can hold a DAG: names of pipelines and of their files agree."""
    name, _, kind = dag_id.rpartition(".")
    if kind == BROKEN:
        return [path for path in pipeline_files(root) if _broken_id(path, root) == dag_id]
    return pipeline_files(root, name)


def _broken_id(path: Path, root: Path) -> str:
    name = pipeline_name(path.relative_to(root))
    return f"{re.sub(r'[^A-Za-z0-9_.-]', '_', name)[:200]}.{BROKEN}"


def _broken_dag(path: Path, root: Path, problem: SpecErrors) -> DAG:
    faults = "\n".join(f"    {line}" for line in str(problem).splitlines())
    dag = DAG(
        dag_id=_broken_id(path, root),
        description="This pipeline file cannot be read.",
        doc_md=f"`{path.relative_to(root)}` cannot be read:\n\n{faults}\n",
        schedule=None,
        catchup=False,
        is_paused_upon_creation=True,
        tags={"mlretrain", BROKEN},
    )
    set_source(dag, str(path))
    BrokenPipelineOperator(task_id="faults", dag=dag, message=str(problem))
    return dag
