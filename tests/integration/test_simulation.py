"""``mlretrain simulate --train``: models of the past are really trained, judged, promoted and scored."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from demo.flights import lay_out
from mlretrain_factory.cli import main

pytestmark = pytest.mark.integration

EXAMPLES = Path(__file__).parents[2] / "example_dags"
CHANGES = {
    "min_rows: 1000": "min_rows: 300",
    "min_new_rows: 10000": "min_new_rows: 0",
    "any: [drift]": "any: [drift, performance]",
    "cooldown: 21d": "cooldown: 4d",
}


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example on every eighth flight, retrained whenever drift or performance asks for it."""
    monkeypatch.setenv("MLRETRAIN_HOME", str(tmp_path))
    lay_out(tmp_path / "data" / "flights", every=8)
    shutil.copytree(EXAMPLES, tmp_path / "dags")
    path = tmp_path / "dags" / "flight-delay.pipeline.yaml"
    text = path.read_text()
    for old, new in CHANGES.items():
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    return path


def test_policies_are_compared_by_what_their_models_were_worth(
    pipeline: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["--from", "2013-04-01", "--to", "2013-04-15", "--train", "--fixed", "7d", "--no-always"]

    assert main(["simulate", str(pipeline), *arguments, "--out", str(out)]) == 0

    found: dict[str, Any] = json.loads((out / "simulation.json").read_text())
    by_name = {each["name"]: each for each in found["results"]}
    assert list(by_name) == ["as written", "never", "7d"]
    assert all(0.5 < each["outcome"]["quality"] < 0.9 for each in by_name.values())
    assert [each["rows"] for each in by_name["never"]["outcome"]["tiles"]] == [
        each["rows"] for each in by_name["7d"]["outcome"]["tiles"]
    ]
    assert by_name["never"]["replay"]["retrains"] == []
    assert [each["outcome"] for each in by_name["7d"]["replay"]["retrains"]] != []
    assert all(each["why"].startswith(("promote", "reject")) for each in by_name["7d"]["replay"]["retrains"])
    _check_steps(by_name["as written"]["replay"]["steps"])
    assert found["recommendation"]["setting"] in by_name
    assert found["recommendation"]["reason"] in capsys.readouterr().out
    assert not list(out.glob(".models-*"))


def _check_steps(steps: list[dict[str, Any]]) -> None:
    performed = [each["performed"] for each in steps]
    assert performed[0]["verdict"] == "unknown"
    assert "no answers with labels yet" in performed[0]["summary"]
    assert all("labelled" in each["summary"] for each in performed[5:9])
    assert any(each["measured"]["signals"]["prediction"] is not None for each in steps)
