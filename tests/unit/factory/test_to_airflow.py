"""Airflow's side: what a loader file registers, and what a worker builds."""

from __future__ import annotations

import re
import shutil
import traceback
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest

pytest.importorskip("airflow")

from airflow.sdk.exceptions import AirflowFailException

from mlretrain_factory import load_airflow_dags
from mlretrain_factory.errors import SpecErrors
from mlretrain_factory.spec.notification import NOTIFIERS
from mlretrain_factory.to_airflow import BrokenPipelineOperator, load

pytestmark = pytest.mark.airflow

FIXTURES = Path(__file__).parents[2] / "fixtures"
GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(FIXTURES / "good", tmp_path, dirs_exist_ok=True)
    return tmp_path


def dags_of(folder: Path) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__file__": str(folder / "loader.py")}
    load_airflow_dags(namespace)
    del namespace["__file__"]
    return namespace


def test_a_loader_file_registers_every_pipeline(folder: Path) -> None:
    names = [f"{n}.{k}" for n in ("churn", "fraud", "returns", "watched") for k in ("retrain", "rollback")]
    assert sorted(dags_of(folder)) == sorted([*names, "watched.monitor"])


def test_a_broken_file_is_a_dag_and_hides_no_other(folder: Path) -> None:
    shutil.copy(FIXTURES / "malformed" / "wrong-cron.pipeline.yaml", folder)
    dags = dags_of(folder)
    assert len(dags) == 10
    broken = dags["wrong-cron.broken"]
    assert "not a cron expression" in broken.doc_md
    [task] = broken.tasks
    assert isinstance(task, BrokenPipelineOperator)
    with pytest.raises(AirflowFailException, match=r"wrong-cron\.pipeline\.yaml:12:18: schedule\.cron"):
        task.execute({})


def test_a_worker_builds_only_its_dag(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "fraud.retrain")
    (folder / "churn.pipeline.yaml").write_text("broken")
    assert list(dags_of(folder)) == ["fraud.retrain"]
    assert [dag.dag_id for dag in load(folder / "fraud.pipeline.yaml")] == ["fraud.retrain"]


def test_a_worker_whose_file_broke_says_why(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "fraud.pipeline.yaml").write_text("version: 1\n\tpipeline: fraud\n")
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "fraud.retrain")
    with pytest.raises(SpecErrors, match="a tab"):
        dags_of(folder)
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "fraud.broken")
    assert list(dags_of(folder)) == ["fraud.broken"]


def test_an_import_error_ends_in_the_faults(folder: Path) -> None:
    file = folder / "churn.pipeline.yaml"
    file.write_text(file.read_text() + "ownr: me\n")
    with pytest.raises(SpecErrors) as caught:
        load(file, folder)
    lines = "".join(traceback.format_exception(caught.value)).splitlines()
    assert lines[-1].endswith("Did you mean `owner`?")
    assert caught.value.__cause__ is None
    assert len(lines) < 12


def test_code_beside_a_pipeline_in_a_folder_is_found(folder: Path) -> None:
    (folder / "team").mkdir()
    shutil.move(folder / "churn.pipeline.yaml", folder / "team")
    dags = dags_of(folder)
    assert dags["churn.retrain"].get_task("train").code_root == "team"
    assert dags["fraud.retrain"].get_task("train").code_root is None


def test_airflow_itself_imports_the_loader_file(folder: Path) -> None:
    from airflow.dag_processing.dagbag import DagBag

    shutil.copy(FIXTURES / "malformed" / "tab.pipeline.yaml", folder)
    text = "from mlretrain_factory import load_airflow_dags  # airflow dag\nload_airflow_dags(globals())\n"
    (folder / "loader.py").write_text(text)
    bag = DagBag(dag_folder=folder, bundle_path=folder)
    assert bag.import_errors == {}
    assert len(bag.dags) == 10
    assert bag.dags["churn.retrain"].fileloc == str(folder / "churn.pipeline.yaml")
    assert bag.dags["churn.retrain"].relative_fileloc == "loader.py"


def test_the_code_tab_shows_the_yaml(folder: Path) -> None:
    from mlretrain_provider.plugins.policy import dag_policy

    dag = dags_of(folder)["churn.retrain"]
    dag_policy(dag)
    assert dag.fileloc == str(folder / "churn.pipeline.yaml")


def test_groups_notifiers_and_forms() -> None:
    dags: dict[str, Any] = {dag.dag_id: dag for dag in load(GOLDEN / "everything" / "pipeline.yaml", GOLDEN)}
    retrain = dags["everything.retrain"]
    assert retrain.get_task("rollout.stage_1.observe").task_group.group_id == "rollout.stage_1"
    assert len(retrain.get_task("record").on_success_callback) == 3
    assert retrain.params.dump() == {"reason": None, "params": {}, "dry_run": False}
    assert dags["everything.monitor"].get_task("profile_window").window == 7 * 86_400


def test_people_are_told_that_their_answer_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    dags: dict[str, Any] = {dag.dag_id: dag for dag in load(GOLDEN / "everything" / "pipeline.yaml", GOLDEN)}
    [question] = dags["everything.retrain"].get_task("approve").notifiers
    told: list[Any] = []

    def notifier(**kwargs: Any) -> Any:
        return lambda context: told.append((kwargs, context))

    known = {"mlretrain_provider.notifications.slack:SlackNotifier": notifier}
    monkeypatch.setattr("mlretrain_factory.to_airflow.resolve_name", known.get)
    question({"ti": "approve"})
    assert told == [({"conn_id": "chat", "channel": "#ml"}, {"ti": "approve"})]


@pytest.mark.parametrize("name", NOTIFIERS)
def test_a_notifier_by_name_is_there(name: str) -> None:
    to = {"to": ["ml@example.com"]} if name == "email" else {}
    assert resolve_name(NOTIFIERS[name])(conn_id="chat", **to).conn_id == "chat"


def test_a_policy_that_airflows_configuration_names_refuses_a_pipeline(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    policies = tmp_path_factory.mktemp("policies")
    policy = "version: 1\npolicy: asked\napplies_to: {pipelines: [churn]}\n"
    (policies / "asked.yaml").write_text(f"{policy}require: {{approval: {{required: always}}}}\n")
    monkeypatch.setenv("AIRFLOW__MLRETRAIN__POLICIES", str(policies))
    dags = dags_of(folder)
    assert "churn.retrain" not in dags
    assert "policy `asked` demands approval" in dags["churn.broken"].get_task("faults").message
    assert "fraud.retrain" in dags
    with pytest.raises(SpecErrors, match=r"policy `asked` demands approval"):
        load(folder / "churn.pipeline.yaml")


def test_only_the_reason_of_a_roll_back_must_be_answered() -> None:
    dags: dict[str, Any] = {dag.dag_id: dag for dag in load(GOLDEN / "everything" / "pipeline.yaml", GOLDEN)}
    # Airflow's form insists on every field whose schema does not allow null.
    required = [
        (name, field)
        for name in ("everything.retrain", "everything.rollback")
        for field in dags[name].params
        if "null" not in dags[name].params.get_param(field).schema["type"]
    ]
    assert required == [("everything.rollback", "reason")]


def test_a_notifier_is_loaded_when_its_event_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    dags: dict[str, Any] = {dag.dag_id: dag for dag in load(GOLDEN / "everything" / "pipeline.yaml", GOLDEN)}
    callback, *_ = dags["everything.monitor"].get_task("record").on_success_callback
    told: list[Any] = []

    class Notifier:
        def __init__(self, **kwargs: Any) -> None:
            self.kwargs = kwargs

        def __call__(self, context: Any) -> None:
            told.append(self.kwargs)

    class TaskInstance:
        task_id = "record"

        def __init__(self, event: str) -> None:
            self.event = event

        def xcom_pull(self, task_ids: str) -> dict[str, str]:
            assert task_ids == "record"
            return {"event": self.event}

    monkeypatch.setattr("mlretrain_factory.to_airflow.resolve_name", {"shop.alerts:Notifier": Notifier}.get)
    callback({"ti": TaskInstance("stable")})
    assert told == []
    callback({"ti": TaskInstance("drift")})
    assert told == [{"conn_id": "alerts", "channel": "ml"}]
    callback(
        {"ti": TaskInstance("drift"), "exception": ValueError("the record failed, which is another event")}
    )
    assert len(told) == 1


def test_only_what_waits_is_told_how_to_wait() -> None:
    dags: dict[str, Any] = {dag.dag_id: dag for dag in load(GOLDEN / "everything" / "pipeline.yaml", GOLDEN)}
    for name in ("train", "tune", "rollout.stage_1.observe"):
        assert dags["everything.retrain"].get_task(name).deferrable is True
    assert dags["everything.monitor"].get_task("trigger_retrain").deferrable is False


def test_a_pipeline_may_be_scheduled_on_another_ones_champion(folder: Path) -> None:
    from mlretrain_provider.assets import champion_asset

    file = folder / "fraud.pipeline.yaml"
    schedule = 'schedule: {on_assets: ["x-mlretrain://churn/champion"]}\n'
    file.write_text(re.sub(r"(?m)^schedule:.*\n", "", file.read_text()) + schedule)

    timetable: Any = load(file)[0].timetable

    assert list(timetable.asset_condition.objects) == [champion_asset("churn")]
