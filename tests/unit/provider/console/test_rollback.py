"""A roll-back is started once, where it can be, by somebody who may, and followed to its end."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mlretrain.errors import ConfigError, NotFound
from mlretrain_factory.cli import main
from mlretrain_provider.console.airflow_api import PASSWORD, TOKEN, URL, USER, AirflowApi
from mlretrain_provider.console.rollback import RollBack
from tests.fakes.airflow_api import FakeAirflow, Run, fake_airflow

DAG = "flights.rollback"
NOON = datetime(2026, 3, 3, 12, tzinfo=UTC)


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAirflow]:
    for name in (TOKEN, USER, PASSWORD):
        monkeypatch.delenv(name, raising=False)
    with fake_airflow(dags={DAG: {}}) as running:
        monkeypatch.setenv(URL, running.url)
        yield running


def back(airflow: FakeAirflow, to: str | None = "7", **env: str) -> RollBack:
    api = AirflowApi(url=airflow.url, env=env)
    return RollBack(api=api, pipeline="flights", to=to, sleep=lambda _: None, now=lambda: NOON)


def test_the_dag_gets_version_and_reason(airflow: FakeAirflow, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollback", "flights", "--to", "v7", "--reason", "complaints"]) == 0
    (body,) = airflow.posted
    assert (body["conf"], body["logical_date"]) == ({"version": "7", "reason": "complaints"}, None)
    page = f"{airflow.url}/dags/{DAG}/runs/{body['dag_run_id']}"
    assert capsys.readouterr().out == f"{DAG} is started: {page}\n"


@pytest.mark.parametrize("to", [[], ["--to", "previous"]])
def test_without_a_version_it_is_the_champion_before(airflow: FakeAirflow, to: list[str]) -> None:
    assert main(["rollback", "flights", *to, "--reason", "complaints"]) == 0
    assert airflow.posted[0]["conf"]["version"] is None


def test_a_broken_file_does_not_keep_anybody_from_going_back(airflow: FakeAirflow, tmp_path: Path) -> None:
    file = tmp_path / "flights.pipeline.yaml"
    file.write_text("pipeline: [")
    assert main(["rollback", str(file), "--reason", "complaints"]) == 0


def test_a_second_command_finds_the_run_of_the_first(airflow: FakeAirflow) -> None:
    first, new = back(airflow).start("complaints")
    assert new
    assert back(airflow).start("complaints") == (first, False)
    assert back(airflow).start("other complaints")[1]
    assert back(airflow, to="6").start("complaints")[1]
    airflow.runs[first].states = ["success"]
    again, new = back(airflow).start("complaints")
    assert (new, again != first) == (True, True)


def test_of_two_at_the_same_time_one_starts_it(airflow: FakeAirflow) -> None:
    run_id, _ = back(airflow).start("complaints")
    started = airflow.runs.pop(run_id)
    late = back(airflow)
    looked = airflow.answer

    def between(method: str, url: str, token: str | None, body: object) -> tuple[int, dict[str, object]]:
        if method == "POST" and "dagRuns" in url:
            airflow.runs[run_id] = started
        return looked(method, url, token, body)

    airflow.answer = between  # type: ignore[method-assign]
    assert late.start("complaints") == (run_id, False)


def test_waiting_says_what_serves(airflow: FakeAirflow, capsys: pytest.CaptureFixture[str]) -> None:
    airflow.result = {"version": "7", "previous": "8"}
    run_id, _ = back(airflow).start("complaints")
    said: list[str] = []
    assert back(airflow).follow(run_id, said.append) == 0
    assert said == ["Version 7 serves in place of version 8.\n"]


def test_waiting_outlasts_a_restart_of_airflow(airflow: FakeAirflow) -> None:
    run_id, _ = back(airflow).start("complaints")
    whole, away = airflow.answer, [503, 502, 500]

    def restarting(method: str, url: str, token: str | None, body: object) -> tuple[int, dict[str, object]]:
        return (away.pop(), {}) if away and "dagRuns" in url else whole(method, url, token, body)

    airflow.answer = restarting  # type: ignore[method-assign]
    assert back(airflow).follow(run_id, lambda _: None) == 0


def test_waiting_for_one_that_fails_is_a_failure(
    airflow: FakeAirflow, capsys: pytest.CaptureFixture[str]
) -> None:
    airflow.states = ("failed",)
    assert main(["rollback", "flights", "--to", "7", "--reason", "complaints", "--wait"]) == 1
    assert "It failed: roll_back." in capsys.readouterr().out


def test_a_result_that_nobody_told_is_done(airflow: FakeAirflow) -> None:
    airflow.runs["run"] = Run({}, ["success"])
    said: list[str] = []
    assert back(airflow).follow("run", said.append) == 0
    assert said == ["Done.\n"]


def test_a_paused_dag_is_refused(airflow: FakeAirflow) -> None:
    airflow.dags[DAG] = {"is_paused": True}
    with pytest.raises(ConfigError, match=f"is paused.*airflow dags unpause {DAG}"):
        back(airflow).start("complaints")
    assert airflow.posted == []


@pytest.mark.parametrize("state", ["is_stale", "has_import_errors"])
def test_a_dag_that_cannot_be_loaded_is_refused(airflow: FakeAirflow, state: str) -> None:
    airflow.dags[DAG] = {state: True}
    with pytest.raises(ConfigError, match="cannot load"):
        back(airflow).start("complaints")


def test_a_missing_dag_is_refused(airflow: FakeAirflow) -> None:
    airflow.dags.clear()
    with pytest.raises(NotFound, match=rf"no such DAG \(found {DAG}\)"):
        back(airflow).start("complaints")


@pytest.mark.parametrize(
    "env", [{USER: "ada", PASSWORD: "s3cret"}, {TOKEN: "token of ada", USER: "nobody", PASSWORD: "wrong"}]
)
def test_who_asks_is_in_the_environment(airflow: FakeAirflow, env: dict[str, str]) -> None:
    airflow.users = {"ada": "s3cret"}
    assert back(airflow, **env).start("complaints")[1]


@pytest.mark.parametrize("env", [{}, {USER: "ada", PASSWORD: "wr0ng"}, {TOKEN: "t0ken"}])
def test_nobody_gets_in_and_no_secret_gets_out(airflow: FakeAirflow, env: dict[str, str]) -> None:
    airflow.users = {"ada": "s3cret"}
    with pytest.raises(ConfigError, match=f"Set {TOKEN}, or {USER} and {PASSWORD}") as error:
        back(airflow, **env).start("complaints")
    assert not {"wr0ng", "t0ken"} & set(str(error.value).split())
    assert "wr0ng" not in repr(back(airflow, **env))


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://x", "http://ada:s3cret@localhost:8080"])
def test_an_address_is_an_address(url: str) -> None:
    with pytest.raises(ConfigError, match="not the address of an Airflow") as error:
        AirflowApi(url=url)
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize("arguments", [["--to", "latest", "--reason", "x"], ["--reason", " "]])
def test_what_cannot_be_meant_is_refused(arguments: list[str]) -> None:
    assert main(["rollback", "flights", *arguments]) == ConfigError.exit_code


def test_an_airflow_that_is_away_may_be_asked_again(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["rollback", "flights", "--reason", "x", "--airflow-url", "http://127.0.0.1:9"]
    assert main(asked) == 20
    assert "Airflow does not answer" in capsys.readouterr().err
