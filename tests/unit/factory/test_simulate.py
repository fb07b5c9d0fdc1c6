"""``mlretrain simulate`` on the example pipeline and a part of its real data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from demo.flights import lay_out
from mlretrain_factory.cli import main

EXAMPLES = Path(__file__).parents[3] / "example_dags"
SPAN = ["--from", "2013-04-01", "--to", "2013-04-22"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every fourth flight, and the example's pipeline with windows small enough for them."""
    home = tmp_path_factory.mktemp("home")
    lay_out(home / "data" / "flights", every=4)
    shutil.copytree(EXAMPLES, home / "dags")
    return home


@pytest.fixture
def pipeline(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    monkeypatch.setenv("MLRETRAIN_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    return str(home / "dags" / "flight-delay.pipeline.yaml")


def test_a_table_a_page_a_picture_and_the_data(
    pipeline: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    swept = ["--sweep", "drift.share=0.05,0.15", "--jobs", "1"]

    assert main(["simulate", pipeline, *SPAN, *swept]) == 0

    out, err = capsys.readouterr()
    assert out.startswith("flight-delay, 01 Apr 2013 to 22 Apr 2013: 21 windows, ")
    names = [line.split("  ")[0] for line in out.splitlines()[3:]]
    assert names[:6] == ["as written", "drift.share=0.05", "never", "weekly", "monthly", "always"]
    assert "drift.share=0.15 is the pipeline as it is written." in out
    assert "windows" in err
    folder = tmp_path / "flight-delay.simulation"
    assert sorted(each.name for each in folder.iterdir()) == [
        "simulation.html",
        "simulation.json",
        "simulation.svg",
    ]
    kept = json.loads((folder / "simulation.json").read_text())
    assert [len(each["replay"]["steps"]) for each in kept["results"]] == [21, 21, 0, 0, 0, 0]


def test_the_same_command_gives_the_same_bytes_but_for_its_timings(pipeline: str, tmp_path: Path) -> None:
    def run(name: str) -> dict[str, Any]:
        out = tmp_path / name
        arguments = ["--fixed", "14d", "--no-always", "--out", str(out)]
        assert main(["simulate", pipeline, *SPAN, *arguments]) == 0
        found: dict[str, Any] = json.loads((out / "simulation.json").read_text())
        del found["timings"]
        return found

    assert run("one") == run("two")
    assert (tmp_path / "one/simulation.svg").read_bytes() == (tmp_path / "two/simulation.svg").read_bytes()


def test_json_is_all_that_is_printed(pipeline: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", pipeline, *SPAN, "--json", "--jobs", "1"]) == 0

    assert json.loads(capsys.readouterr().out)["pipeline"] == "flight-delay"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--from", "2012-01-01", "--to", "2012-02-01"], "no rows in the window"),
        (["--from", "2013-01-01", "--to", "2013-02-01"], "no rows to train the first model on"),
        (["--from", "2013-05-01", "--to", "2013-04-01"], "the span is empty"),
        (["--from", "April", "--to", "2013-05-01"], "not a day"),
        ([*SPAN, "--sweep", "drift.tolerence=0.1"], "Did you mean `drift.tolerance`?"),
        ([*SPAN, "--sweep", "drift.share=7"], "out of range"),
        ([*SPAN, "--fixed", "often"], "not a calendar"),
        ([*SPAN, "--data", "/nowhere/*.parquet"], "no data files here"),
    ],
)
def test_a_fault_is_a_message_and_a_status(
    pipeline: str, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", pipeline, "--jobs", "1", *arguments]) not in (0, 1)

    assert said in capsys.readouterr().err


def test_a_pipeline_that_is_not_monitored_cannot_be_replayed(
    home: Path, pipeline: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = Path(pipeline).read_text()
    bare = home / "dags" / "bare.pipeline.yaml"
    bare.write_text(text[: text.index("monitor:")].replace("pipeline: flight-delay", "pipeline: bare", 1))

    assert main(["simulate", str(bare), *SPAN]) == 13
    assert "Add `monitor`." in capsys.readouterr().err
