"""``mlretrain history``, ``card`` and ``verify``: the ledger is real, in a folder; the rest are fakes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from mlretrain import wire
from mlretrain.ledger import EventKind, Ledger, LedgerEvent
from mlretrain.ports import Traffic
from mlretrain.rollout import Rollout
from mlretrain.runtime.store import file_uri, open_store
from mlretrain.verdict import Check
from mlretrain_factory.cli import main
from mlretrain_provider.console import place as place_module
from mlretrain_provider.console.place import Place
from tests.fakes.registry import FakeRegistry
from tests.fakes.target import FakeTarget

FIRST = datetime(2026, 3, 2, 6, tzinfo=UTC)
PIPELINE = """\
version: 1
pipeline: flights
stack: local
data:
  training: {uri: "file:///nowhere/*.parquet", time_column: at, window: 30d}
  target: late
train: {entrypoint: "train:train"}
evaluate: {metrics: [roc_auc]}
promote: {gates: [{metric: roc_auc, min: 0.5}]}
deploy: {strategy: direct}
"""


@dataclass
class World:
    """A pipeline in a folder, whose versions take over at six o'clock, a day apart."""

    folder: Path
    registry: FakeRegistry
    target: FakeTarget
    day: int = 0

    @property
    def ledger(self) -> Ledger:
        return Ledger(open_store(file_uri(self.folder / "artifacts")), "flights", self.registry)

    def rollout(self, run_id: str) -> Rollout:
        now = FIRST + timedelta(days=self.day)
        self.day += 1
        return Rollout(
            pipeline="flights", run_id=run_id, window_end=now, ledger=self.ledger,
            registry=self.registry, target=self.target, now=lambda: now,
        )  # fmt: skip

    def promote(self, *checks: Check, approved: str = "", says: str = "") -> None:
        rollout = self.rollout(f"run-{self.day}")
        version = self.registry.register("flights", "models:/m", rollout.run_id, {}).version
        uri = self._keep(checks, version)

        def tell(kind: EventKind, **fields: Any) -> None:
            self.ledger.append(
                LedgerEvent(
                    pipeline="flights", run_id=rollout.run_id, kind=kind, at=rollout.now(),
                    window_end=rollout.window_end, version=version, **fields,
                )
            )  # fmt: skip

        tell("registered", reason=f"drift before v{version}")
        tell("gated", outcome="promote", reason="promote: all hold", evidence={"checks_uri": uri})
        if approved:
            tell("approved", outcome="approved", by=approved, reason=says)
        champion = self.ledger.standing().champion
        rollout.promote(version, champion=champion, reason="promote: all hold")

    def _keep(self, checks: tuple[Check, ...], version: str) -> str:
        file = self.folder / f"checks-{version}.json"
        file.write_bytes(wire.pretty(checks))
        return file_uri(file)

    def ask(self, command: str, *arguments: str) -> int:
        return main([command, "flights", "--dags", str(self.folder), *arguments])


@pytest.fixture(autouse=True)
def _own_environment() -> Iterator[None]:
    with mock.patch.dict(os.environ):
        yield


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    (tmp_path / "stacks").mkdir()
    stack = f"version: 1\nartifacts_uri: {file_uri(tmp_path / 'artifacts')}\nserving: {{conn_id: models}}\n"
    (tmp_path / "stacks" / "local.yaml").write_text(stack)
    (tmp_path / "flights.pipeline.yaml").write_text(PIPELINE)
    made = World(folder=tmp_path, registry=FakeRegistry(), target=FakeTarget())
    monkeypatch.setattr(Place, "registry", made.registry)
    monkeypatch.setattr(Place, "target", made.target)
    made.promote(Check(name="roc_auc", passed=True, observed="0.71", required="≥ 0.5"))
    made.promote(approved="ada", says="as good as it gets")
    return made


def test_the_whole_history_is_a_table(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.rollout("back").move_back("1", reason="complaints", by="bob")
    assert world.ask("history") == 0
    assert capsys.readouterr().out == (
        "version  from                     until\n"
        "v1       2026-03-02 06:00 UTC     2026-03-03 06:00 UTC\n"
        "         why       drift before v1\n"
        "         gates     promote: all hold\n"
        "         approved  nobody was asked\n"
        "         ended     v2 took over\n"
        "v2       2026-03-03 06:00 UTC     2026-03-04 06:00 UTC\n"
        "         why       drift before v2\n"
        "         gates     promote: all hold\n"
        "         approved  by ada on 2026-03-03 06:00 UTC: as good as it gets\n"
        "         ended     rolled back by bob to v1: complaints\n"
        "v1       2026-03-04 06:00 UTC\n"
        "         why       complaints (asked for by bob)\n"
        "         gates     promote: all hold\n"
        "         approved  nobody was asked\n"
    )


def test_a_day_has_every_version_of_it_with_evidence_and_the_way_back(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert world.ask("history", "--at", "2026-03-03") == 0
    assert capsys.readouterr().out == (
        "flights at 2026-03-03:\n"
        "  from 2026-03-02 06:00 UTC until 2026-03-03 06:00 UTC: v1 answered all requests\n"
        "  from 2026-03-03 06:00 UTC until now: v2 answered all requests\n"
        "\n"
        "v1, champion from 2026-03-02 06:00 UTC until 2026-03-03 06:00 UTC\n"
        "  why       drift before v1\n"
        "  gates     promote: all hold\n"
        "  approved  nobody was asked\n"
        f"  evidence  {file_uri(world.folder / 'checks-1.json')}\n"
        "    check    observed  required  holds  note\n"
        "    roc_auc  0.71      ≥ 0.5     yes\n"
        "  To have it serve again:\n"
        "    mlretrain rollback flights --to v1 --reason '…'\n"
        "\n"
        "v2, champion from 2026-03-03 06:00 UTC and is it now\n"
        "  why       drift before v2\n"
        "  gates     promote: all hold\n"
        "  approved  by ada on 2026-03-03 06:00 UTC: as good as it gets\n"
        f"  evidence  {file_uri(world.folder / 'checks-2.json')}\n"
        "    check  observed  required  holds  note\n"
        "  To take it back:\n"
        "    mlretrain rollback flights --to v1 --reason '…'\n"
    )


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ("2026-03-02", {"1"}),
        ("2026-03-03T05:59", {"1"}),
        ("2026-03-03T07:30+02:00", {"1"}),
        ("2026-03-03T06:00", {"2"}),
        ("2026-12-24", {"2"}),
        ("2026-03-01", set()),
        ("2026-03-02T05:59", set()),
    ],
)
def test_the_same_as_data(
    world: World, capsys: pytest.CaptureFixture[str], when: str, said: set[str]
) -> None:
    assert world.ask("history", "--at", when, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["pipeline"] == "flights"
    assert {version for each in told["history"] for version in each["traffic"]["weights"]} == said


def test_a_canary_is_told_with_its_shares(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    version = world.registry.register("flights", "models:/m", "canary", {}).version
    split = Traffic(weights={"2": 90, version: 10}, mirrored={"1": 5})
    world.rollout("canary").shift(version, split, champion="2", outcome="10")
    assert world.ask("history", "--at", "2026-03-04T12:00") == 0
    told = capsys.readouterr().out
    shares = (
        "v2 answered 90 %; v3 answered 10 %; v1 got copies of 5 %; the rollout of run canary was under way"
    )
    assert shares in told
    assert "v3, a candidate\n" in told


def test_evidence_that_is_gone_is_said(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    (world.folder / "checks-1.json").unlink()
    (world.folder / "checks-2.json").write_text("[1]")
    world.ask("history", "--at", "2026-03-03")
    told = capsys.readouterr().out
    assert "    the file is gone\n" in told
    assert "    it cannot be read: " in told


def test_who_has_no_past_says_so(tmp_path: Path, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.ask("history", "--at", "2025-01-01")
    assert capsys.readouterr().out == "flights at 2025-01-01: no version served yet.\n"


@pytest.mark.parametrize("when", ["yesterday", "2026-02-30", "2026-03-03T25:00"])
def test_a_day_is_a_day(world: World, when: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.ask("history", "--at", when) == 13
    assert "not a day, nor an instant" in capsys.readouterr().err


def test_a_ledger_in_a_folder_needs_no_airflow(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "airflow", None)
    monkeypatch.setitem(sys.modules, "airflow.sdk", None)
    assert world.ask("history") == 0


def test_what_needs_airflow_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "airflow.sdk", None)
    assert world.ask("verify") == 13
    assert "pip install 'airflow-provider-mlretrain[airflow]'" in capsys.readouterr().err


@pytest.mark.airflow
def test_a_connection_that_is_missing_is_named_with_its_variable(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.undo()
    assert world.ask("verify") == 13
    told = capsys.readouterr().err
    assert "airflow connections add mlflow_default" in told
    assert "AIRFLOW_CONN_MLFLOW_DEFAULT" in told


@pytest.mark.airflow
def test_airflow_looks_in_its_database_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("_AIRFLOW_PROCESS_CONTEXT", raising=False)
    place_module.ask_airflow()
    from airflow.sdk.execution_time.supervisor import ensure_secrets_backend_loaded

    assert "MetastoreBackend" in {type(each).__name__ for each in ensure_secrets_backend_loaded()}


def test_who_agrees_is_left_in_peace(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.ask("verify") == 0
    assert world.ask("verify", "--repair") == 0
    assert capsys.readouterr().out == "flights: ledger, registry and what is served agree\n" * 2


def test_what_differs_is_said_and_mended(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.registry.set_alias("flights", "champion", None)
    assert world.ask("verify") == 1
    said = "champion: the alias champion points to none, the ledger says version 2"
    how = "flights: 1 thing differs: mlretrain verify flights --repair mends what can be"
    assert capsys.readouterr().out == f"{said}\n{how}\n"
    assert world.ask("verify", "--repair") == 0
    assert capsys.readouterr().out.startswith(f"{said} (mended)\n")
    (entered,) = world.ledger.events("repaired")
    assert entered.by
    assert world.ask("verify", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"agree": True, "findings": []}


def test_what_cannot_be_mended_keeps_the_status(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    chain = sorted((world.folder / "artifacts/flights/ledger/chain").iterdir())
    forged = json.loads(chain[1].read_text())
    forged["event"]["reason"] = "because"
    filed = world.ledger.run_path(world.ledger.read(world.ledger.chain_path(2)))
    for copy in (chain[1], world.folder / "artifacts" / filed):
        copy.write_text(json.dumps(forged))
    tags: Mapping[str, str] = {"mlretrain.ledger.00000002": json.dumps(forged)}
    world.registry.tag("flights", "1", tags)
    assert world.ask("verify", "--repair") == 1
    told = capsys.readouterr().out
    assert "event 2 is not the one that event 3 followed (cannot be mended)" in told
    assert "--repair" not in told


def test_a_rollout_under_way_is_news(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    version = world.registry.register("flights", "models:/m", "canary", {}).version
    split = Traffic(weights={"2": 90, version: 10})
    world.rollout("canary").shift(version, split, champion="2", outcome="10")
    assert world.ask("verify") == 0
    assert "rollout: the rollout of run canary is under way\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("version", "title"), [([], "2"), (["--version", "1"], "1"), (["--version", "v1"], "1")]
)
def test_the_card_is_of_the_champion_or_of_who_is_asked_for(
    world: World, capsys: pytest.CaptureFixture[str], version: list[str], title: str
) -> None:
    assert world.ask("card", *version) == 0
    assert capsys.readouterr().out.startswith(f"# flights, version {title}\n")


def test_there_is_no_card_of_nobody(world: World) -> None:
    assert world.ask("card", "--version", "7") == 11
