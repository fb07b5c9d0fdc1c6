"""Where a pipeline runs: one word changes it and nothing else; teams, classes and backends' options."""

from __future__ import annotations

import inspect
import shutil
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest

from mlretrain import wire
from mlretrain_factory.errors import SpecErrors
from mlretrain_factory.loader import load_source
from mlretrain_factory.plan.build import build_plan
from mlretrain_factory.plan.jobs import laid_over
from mlretrain_factory.plan.model import DagPlan, Plan, TaskPlan
from mlretrain_factory.spec.backend import KubernetesSpec, LocalSpec, SagemakerSpec

EXAMPLES = Path(__file__).parents[3] / "example_dags"
FLIGHTS = "flight-delay.pipeline.yaml"
STACKS = ("local", "kubernetes", "sagemaker")
ENVIRON = {"MLRETRAIN_HOME": "/home/mlretrain"}


def example_on(stack: str, folder: Path, **more: str) -> Path:
    """The example, by one word on another stack; ``more`` replaces other lines of it."""
    shutil.copytree(EXAMPLES, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    text = (folder / FLIGHTS).read_text()
    for old, new in {"stack: local": f"stack: {stack}", **more}.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    (folder / FLIGHTS).write_text(text)
    return folder / FLIGHTS


def plan_of(path: Path) -> Plan:
    return build_plan(load_source(path, ENVIRON, path.parent))


def graph(dag: DagPlan) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(task.task_id, task.operator, task.upstream) for task in dag.tasks]


def task_of(plan: Plan, task_id: str) -> TaskPlan:
    return next(task for dag in plan.dags for task in dag.tasks if task.task_id == task_id)


def test_one_word_moves_a_pipeline_and_changes_no_graph(tmp_path: Path) -> None:
    plans = {stack: plan_of(example_on(stack, tmp_path / stack)) for stack in STACKS}
    backends = {stack: plan.dags[0].defaults["backend"] for stack, plan in plans.items()}
    assert backends == {stack: stack for stack in STACKS}
    graphs = [[(dag.dag_id, graph(dag)) for dag in plan.dags] for plan in plans.values()]
    assert graphs[0] == graphs[1] == graphs[2]


@pytest.mark.airflow
def test_airflow_sees_the_same_graph_on_every_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("airflow")
    from mlretrain_factory.to_airflow import load

    monkeypatch.setenv("MLRETRAIN_HOME", "/home/mlretrain")
    graphs = [
        {
            dag.dag_id: {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks}
            for dag in load(example_on(stack, tmp_path / stack), tmp_path / stack)
        }
        for stack in STACKS
    ]
    assert graphs[0] == graphs[1] == graphs[2]
    assert len(graphs[0]) == 3


@pytest.mark.airflow
@pytest.mark.parametrize("stack", STACKS)
def test_a_stack_reaches_the_operators_of_jobs_and_no_others(
    stack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("airflow")
    from mlretrain_factory.to_airflow import load

    monkeypatch.setenv("MLRETRAIN_HOME", "/home/mlretrain")
    file = example_on(stack, tmp_path)
    shared = plan_of(file).dags[0].defaults
    dags: dict[str, Any] = {dag.dag_id: dag for dag in load(file, tmp_path)}
    retrain = dags["flight-delay.retrain"]
    for name in ("validate_data", "train", "evaluate"):
        task = retrain.get_task(name)
        assert (task.backend, task.image) == (stack, shared.get("image"))
        assert task.backend_options == shared.get("backend_options")
        assert task.poll_s == shared.get("poll_s", 15.0)
    assert not hasattr(retrain.get_task("promote"), "backend")


def test_the_same_file_is_the_same_plan_whatever_the_order_of_the_stack(tmp_path: Path) -> None:
    file = example_on("sagemaker", tmp_path)
    stack = tmp_path / "stacks" / "sagemaker.yaml"
    first = wire.canonical(plan_of(file))
    head, body = stack.read_text().split("version: 1\n")
    blocks: list[str] = []
    for line in body.splitlines(keepends=True):
        if line.startswith(" "):
            blocks[-1] += line
        else:
            blocks.append(line)
    stack.write_text(head + "".join(reversed(blocks)) + "version: 1\n")
    assert wire.canonical(plan_of(file)) == first


def test_a_team_is_laid_over_the_stack(tmp_path: Path) -> None:
    plain = plan_of(example_on("kubernetes", tmp_path / "plain"))
    team = plan_of(example_on("kubernetes", tmp_path / "team", **{"owner: ops-ml": "team: research"}))
    options = team.dags[0].defaults["backend_options"]
    assert options == {
        **plain.dags[0].defaults["backend_options"],
        "namespace": "research",
        "queue": "research",
    }
    assert task_of(team, "resolve_data").args["uri"] == "s3://research/data/flights/*.parquet"


def test_a_fault_in_a_team_is_told_to_that_team_alone(tmp_path: Path) -> None:
    file = example_on("kubernetes", tmp_path)
    stack = tmp_path / "stacks" / "kubernetes.yaml"
    stack.write_text(stack.read_text().replace("queue: research}", "queu: x}"))
    assert plan_of(file).pipeline == "flight-delay"
    file.write_text(file.read_text().replace("owner: ops-ml", "team: research"))
    with pytest.raises(SpecErrors) as caught:
        plan_of(file)
    assert {error.path for error in caught.value.errors} == {"teams.research.kubernetes.queu"}


def test_what_only_the_whole_can_lack_is_asked_of_the_whole(tmp_path: Path) -> None:
    file = example_on("sagemaker", tmp_path, **{"owner: ops-ml": "team: research"})
    stack = tmp_path / "stacks" / "sagemaker.yaml"
    role = "  role_arn: arn:aws:iam::123456789012:role/mlretrain-jobs\n"
    own = f"teams:\n  research:\n    sagemaker:\n    {role}    image: registry.example/research:1\n"
    text = stack.read_text().replace(role, "")
    stack.write_text(text.replace("image: 123456789012.dkr.ecr.eu-central-1.amazonaws.com/flights:1\n", own))
    defaults = plan_of(file).dags[0].defaults
    assert defaults["backend_options"]["role_arn"].endswith("mlretrain-jobs")
    assert defaults["image"] == "registry.example/research:1"


def test_what_a_step_asks_for_wins_over_its_class(tmp_path: Path) -> None:
    asked = {"  timeout: 30m": "  timeout: 30m\n  resources: {class: gpu, cpu: 500m, nodes: 2}"}
    plan = plan_of(example_on("kubernetes", tmp_path, **asked))
    train, evaluate = task_of(plan, "train").args, task_of(plan, "evaluate").args
    assert train["job_resources"] == {"cpu": 0.5, "memory": 16 * 2**30, "gpu": 1}
    assert train["nodes"] == 2
    assert train["backend_options"]["node_selector"] == {"accelerator": "nvidia"}
    assert evaluate["job_resources"] == {"cpu": 0.5, "memory": 2 * 2**30}
    assert "backend_options" not in evaluate


def test_an_image_of_the_pipeline_alone_is_enough_for_all_its_jobs(tmp_path: Path) -> None:
    image = {"  timeout: 30m": "  timeout: 30m\n  environment: {image: registry.example/own:2}"}
    file = example_on("kubernetes", tmp_path, **image)
    assert plan_of(file).dags[0].defaults["image"] == "registry.example/flights:1"
    assert task_of(plan_of(file), "evaluate").args["image"] == "registry.example/own:2"
    stack = tmp_path / "stacks" / "kubernetes.yaml"
    stack.write_text(stack.read_text().replace("image: registry.example/flights:1\n", ""))
    assert plan_of(file).dags[0].defaults["image"] == "registry.example/own:2"
    on_this_machine = plan_of(example_on("local", tmp_path / "local", **image))
    assert "image" not in task_of(on_this_machine, "train").args


def test_a_third_party_gets_its_options_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlretrain_factory.spec.backend.third_parties", lambda: {"abacus"})
    file = example_on("local", tmp_path)
    stack = tmp_path / "stacks" / "local.yaml"
    stack.write_text(
        stack.read_text().replace("backend: local", "backend: abacus\nimage: beads:1")
        + "options: {rows: 4, beads: {red: 1}}\n"
        + "resources: {default: {options: {beads: {blue: 2}}}}\n"
    )
    plan = plan_of(file)
    assert plan.dags[0].defaults["backend_options"] == {"rows": 4, "beads": {"red": 1}}
    assert plan.dags[0].defaults["image"] == "beads:1"
    assert task_of(plan, "train").args["backend_options"] == {"rows": 4, "beads": {"red": 1, "blue": 2}}


def test_lists_and_values_are_replaced_and_mappings_are_merged() -> None:
    base = {"a": {"x": 1, "y": [1]}, "b": [1, 2], "c": {"z": 1}}
    over = {"a": {"y": [2]}, "b": [3], "c": None}
    assert laid_over(base, over) == {"a": {"x": 1, "y": [2]}, "b": [3], "c": None}


@pytest.mark.airflow
@pytest.mark.parametrize(
    ("section", "backend"),
    [
        (LocalSpec, "mlretrain_provider.backends.local:LocalBackend"),
        (KubernetesSpec, "mlretrain_provider.backends.kubernetes:KubernetesBackend"),
        (SagemakerSpec, "mlretrain_provider.backends.sagemaker:SagemakerBackend"),
    ],
)
def test_every_key_of_a_section_is_an_option_of_its_backend(section: Any, backend: str) -> None:
    pytest.importorskip("airflow")
    options = set(inspect.signature(resolve_name(backend)).parameters)
    keys = {
        f"{name}_s" if "timedelta" in str(field.annotation) else name
        for name, field in section.model_fields.items()
    }
    assert keys - options == set()


@pytest.mark.parametrize("case", ["tune", "everything"])
def test_a_search_is_one_for_the_operator(case: str) -> None:
    space = pytest.importorskip("mlretrain_provider.space")
    folder = EXAMPLES.parent / "tests" / "golden" / case
    args = task_of(plan_of(folder / "pipeline.yaml"), "tune").args
    assert {each.name for each in space.read_space(args["space"])} == set(args["space"])


def test_what_says_nothing_is_not_in_the_search(tmp_path: Path) -> None:
    space = "{a: {choice: [1, 2], log: false}, b: {int: [1, 9], step: 4}}"
    search = f"  tune: {{trials: 2, sampler: grid, space: {space}}}"
    plan = plan_of(example_on("local", tmp_path, **{"  timeout: 30m": search}))
    assert task_of(plan, "tune").args["space"] == {"a": {"choice": [1, 2]}, "b": {"int": [1, 9], "step": 4.0}}
