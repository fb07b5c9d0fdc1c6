"""What every model registry must do: one suite for the fake and for a real MLflow server."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from uuid import uuid4

import pytest

from mlretrain.errors import NotFound
from mlretrain.ports import ModelRegistry
from mlretrain.registry.mlflow import MlflowRegistry, MlflowTracker
from mlretrain.registry.rest import MlflowRest
from tests.fakes.registry import FakeRegistry
from tests.fixtures_mlflow import mlflow_server


@dataclass
class Case:
    registry: ModelRegistry
    model: Callable[[], tuple[str, str]]
    """Makes a run with a logged model: its URI and the run's id."""


@pytest.fixture(scope="module")
def rest() -> Iterator[MlflowRest]:
    with mlflow_server() as uri:
        yield MlflowRest(uri=uri)


@pytest.fixture(params=["fake", pytest.param("mlflow", marks=pytest.mark.integration)])
def case(request: pytest.FixtureRequest) -> Case:
    if request.param == "fake":
        return Case(FakeRegistry(), lambda: (f"models:/m-{uuid4().hex}", uuid4().hex))
    server: MlflowRest = request.getfixturevalue("rest")

    def model() -> tuple[str, str]:
        run_id = MlflowTracker(rest=server).open_run("models", uuid4().hex, "train", {})
        experiment_id = server.get("runs/get", {"run_id": run_id})["run"]["info"]["experiment_id"]
        body = {"experiment_id": experiment_id, "name": "model", "source_run_id": run_id}
        logged = server.post("logged-models", body)["model"]["info"]["model_id"]
        return f"models:/{logged}", run_id

    return Case(MlflowRegistry(rest=server), model)


@pytest.fixture
def name() -> str:
    return f"model-{uuid4().hex[:8]}"


def test_a_version_is_registered_once_per_run(case: Case, name: str) -> None:
    model_uri, run_id = case.model()

    first = case.registry.register(name, model_uri, run_id, {"mlretrain.key": "k"})
    again = case.registry.register(name, model_uri, run_id, {"mlretrain.key": "k"})

    assert (first.name, first.version, first.run_id, first.tags) == (
        name,
        "1",
        run_id,
        {"mlretrain.key": "k"},
    )
    assert again == first
    assert first.model_uri == f"models:/{name}/1"


def test_runs_get_versions_of_their_own(case: Case, name: str) -> None:
    versions = [case.registry.register(name, *case.model(), {}).version for _ in range(2)]

    assert versions == ["1", "2"]


def test_what_is_not_there_is_none(case: Case, name: str) -> None:
    assert case.registry.version(name, "1") is None
    assert case.registry.version(name, "@champion") is None

    case.registry.register(name, *case.model(), {})

    assert case.registry.version(name, "2") is None
    assert case.registry.version(name, "@champion") is None


def test_an_alias_moves_and_goes(case: Case, name: str) -> None:
    for _ in range(2):
        case.registry.register(name, *case.model(), {})

    for version in ("1", "2", "2"):
        case.registry.set_alias(name, "champion", version)
        found = case.registry.version(name, "@champion")
        assert found is not None
        assert (found.version, found.aliases) == (version, ("champion",))

    for _ in range(2):
        case.registry.set_alias(name, "champion", None)
        assert case.registry.version(name, "@champion") is None


def test_an_alias_needs_a_version(case: Case, name: str) -> None:
    case.registry.register(name, *case.model(), {})

    with pytest.raises(NotFound):
        case.registry.set_alias(name, "champion", "99")


def test_tags_add_up(case: Case, name: str) -> None:
    case.registry.register(name, *case.model(), {"a": "1"})

    case.registry.tag(name, "1", {"b": "2"})
    case.registry.tag(name, "1", {"a": "3"})

    found = case.registry.version(name, "1")
    assert found is not None
    assert found.tags == {"a": "3", "b": "2"}
    with pytest.raises(NotFound):
        case.registry.tag(name, "99", {"a": "1"})


@pytest.mark.integration
def test_a_run_is_opened_logged_and_closed_once(rest: MlflowRest) -> None:
    tracker = MlflowTracker(rest=rest, now=lambda: 1_800_000_000.0)

    run_id = tracker.open_run("flights", "key-1", "train", {"mlretrain.run_id": "r"})
    for _ in range(2):
        assert tracker.open_run("flights", "key-1", "other", {}) == run_id
        tracker.log(run_id, params={"depth": 6}, metrics={"auc": 0.7, "bad": float("nan")}, tags={"t": "1"})
        tracker.log_dataset(run_id, name="training", digest="d" * 64, uri="file:///data", context="training")
        tracker.close_run(run_id, "FINISHED")

    run = rest.get("runs/get", {"run_id": run_id})["run"]
    assert (run["info"]["status"], run["info"]["end_time"]) == ("FINISHED", 1_800_000_000_000)
    assert run["data"]["params"] == [{"key": "depth", "value": "6"}]
    assert {each["key"]: each["value"] for each in run["data"]["metrics"]} == {"auc": 0.7, "bad": "NaN"}
    history = rest.get("metrics/get-history", {"run_id": run_id, "metric_key": "auc"})["metrics"]
    assert len(history) == 1
    assert [each["dataset"]["digest"] for each in run["inputs"]["dataset_inputs"]] == ["d" * 36]
    experiment_id = run["info"]["experiment_id"]
    page = f"{rest.uri}/#/experiments/{experiment_id}/runs/{run_id}"
    assert tracker.web_url(run_id) == f"{page}?workflowType=machine_learning"


@pytest.mark.integration
def test_a_run_keeps_pages_and_says_what_it_is_about(rest: MlflowRest) -> None:
    tracker = MlflowTracker(rest=rest)
    run_id = tracker.open_run("flights", "key-3", "monitor", {})

    for page in (b"<p>old</p>", "<p>1 % → 2 %</p>".encode()):
        tracker.log_file(run_id, "drift/a report.html", page)
        tracker.describe(run_id, "dep_delay KS 0.31 > 0.02, <b> & *x*")

    shown = f"{rest.uri}/get-artifact?run_id={run_id}&path=drift/a%20report.html"
    with urllib.request.urlopen(shown, timeout=30) as answer:
        assert answer.read().decode() == "<p>1 % → 2 %</p>"
    tags = {
        each["key"]: each["value"] for each in rest.get("runs/get", {"run_id": run_id})["run"]["data"]["tags"]
    }
    assert tags["mlflow.note.content"] == r"dep\_delay KS 0.31 > 0.02, \<b> & \*x\*"


@pytest.mark.integration
def test_many_values_are_split_as_mlflow_demands(rest: MlflowRest) -> None:
    tracker = MlflowTracker(rest=rest)
    run_id = tracker.open_run("flights", "key-2", "train", {})

    many = {f"p{number}": number for number in range(250)}
    tracker.log(
        run_id, params=many, metrics={f"m{number}": 1.0 for number in range(1001)}, tags={"long": "x" * 9000}
    )

    run = rest.get("runs/get", {"run_id": run_id})["run"]
    assert len(run["data"]["params"]) == 250
    assert len(run["data"]["metrics"]) == 1001


@pytest.mark.integration
def test_a_server_says_its_version(rest: MlflowRest) -> None:
    assert rest.version().split(".")[0].isdigit()


def test_a_version_is_described_in_markdown_once_and_again(case: Case, name: str) -> None:
    version = case.registry.register(name, *case.model(), {}).version
    for text in ("# First", "# Second\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"):
        case.registry.describe_version(name, version, text)
    assert _description(case.registry, name, version) == text
    with pytest.raises(NotFound):
        case.registry.describe_version(name, "99", "# Nobody")


def _description(registry: ModelRegistry, name: str, version: str) -> str:
    if isinstance(registry, FakeRegistry):
        return registry.descriptions[name, version]
    assert isinstance(registry, MlflowRegistry)
    answer = registry.rest.get("model-versions/get", {"name": name, "version": version})
    return str(answer["model_version"]["description"])
