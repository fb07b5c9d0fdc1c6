from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlretrain_factory.cli import main

FIXTURES = Path(__file__).parents[2] / "fixtures"
GOLDEN = Path(__file__).parents[2] / "golden"


def test_lint_is_silent_about_good_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", str(FIXTURES / "good")]) == 0
    assert capsys.readouterr() == ("pipelines: 4, broken: 0\n", "")


def test_lint_shows_every_fault_of_every_file(capsys: pytest.CaptureFixture[str]) -> None:
    malformed = FIXTURES / "malformed"
    assert main(["lint", str(FIXTURES / "good"), str(malformed), str(malformed / "tab.pipeline.yaml")]) == 1
    out, err = capsys.readouterr()
    broken = len(list(malformed.rglob("*.pipeline.yaml"))) + 1
    assert out == f"pipelines: {broken + 4}, broken: {broken}\n"
    assert len(err.splitlines()) == broken
    assert "Traceback" not in err


def test_explain_in_words_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(GOLDEN / "canary" / "pipeline.yaml")]) == 0
    assert capsys.readouterr().out.startswith("canary (plan ")
    assert main(["explain", "--json", str(GOLDEN / "canary" / "pipeline.yaml")]) == 0
    assert json.loads(capsys.readouterr().out)["pipeline"] == "canary"


def test_a_fault_is_a_message_and_a_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(FIXTURES / "malformed" / "tab.pipeline.yaml")]) == 13
    assert capsys.readouterr().err.endswith("a tab where YAML wants spaces. Indent with spaces.\n")


def test_diff_answers_by_its_status(capsys: pytest.CaptureFixture[str]) -> None:
    canary, direct = str(GOLDEN / "canary" / "pipeline.yaml"), str(GOLDEN / "direct" / "pipeline.yaml")
    assert main(["diff", canary, canary]) == 0
    assert main(["diff", canary, direct]) == 1
    assert "canary.retrain" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["pipeline", "stack"])
def test_schema(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", kind]) == 0
    schema = json.loads(capsys.readouterr().out)
    sections = [schema, *schema["$defs"].values()]
    undescribed = [
        name
        for section in sections
        for name, field in section["properties"].items()
        if not {"description", "$ref"} & set(field)
    ]
    assert undescribed == []


def test_the_schema_accepts_what_the_loader_accepts() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    from mlretrain_factory.schema import pipeline_schema
    from mlretrain_factory.source_map import read_source

    golden = [file.parent / "pipeline.yaml" for file in GOLDEN.glob("*/plan.json")]
    for file in [*golden, *(FIXTURES / "good").glob("*.yaml")]:
        jsonschema.validate(read_source(file).data, pipeline_schema())


@pytest.mark.parametrize(
    "arguments", [["serve", "--help"], ["replay", "--help"], ["image", "--help"], ["--version"]]
)
def test_other_commands_are_there(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(arguments)
    assert done.value.code == 0
    assert capsys.readouterr().out
