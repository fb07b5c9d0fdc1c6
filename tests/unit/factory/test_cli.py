from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mlretrain_factory.cli import main

FIXTURES = Path(__file__).parents[2] / "fixtures"
EXAMPLES = Path(__file__).parents[3] / "example_dags"
GOLDEN = Path(__file__).parents[2] / "golden"


def test_lint_is_silent_about_good_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", str(FIXTURES / "good")]) == 0
    assert capsys.readouterr() == ("pipelines: 4, stacks: 1, broken: 0\n", "")


def test_lint_shows_every_fault_of_every_file(capsys: pytest.CaptureFixture[str]) -> None:
    malformed = FIXTURES / "malformed"
    assert main(["lint", str(FIXTURES / "good"), str(malformed), str(malformed / "tab.pipeline.yaml")]) == 1
    out, err = capsys.readouterr()
    pipelines = len(list(malformed.rglob("*.pipeline.yaml"))) + 1
    stacks, policies = len(list(malformed.rglob("stacks/*"))), len(list(malformed.rglob("policies/*")))
    broken = re.fullmatch(
        f"pipelines: {pipelines + 4}, stacks: {stacks + 1}, policies: {policies}, broken: (\\d+)\n", out
    )
    assert broken
    assert int(broken[1]) > pipelines
    lines = err.splitlines()
    assert len(lines) == len(set(lines)) < int(broken[1])
    assert "Traceback" not in err


def test_lint_checks_a_stack_and_a_policy_alone(capsys: pytest.CaptureFixture[str]) -> None:
    malformed = FIXTURES / "malformed"
    good = [FIXTURES / "good" / "stacks" / "local.yaml", malformed / "governed" / "policies" / "tier-1.yaml"]
    assert main(["lint", *map(str, good)]) == 0
    assert capsys.readouterr() == ("pipelines: 0, stacks: 1, policies: 1, broken: 0\n", "")
    bad = [malformed / "stacks" / "served-roleless.yaml", malformed / "policy_typo" / "policies"]
    assert main(["lint", *map(str, bad)]) == 1
    out, err = capsys.readouterr()
    assert out == "pipelines: 0, stacks: 1, policies: 1, broken: 2\n"
    assert "serving.role_arn: `role_arn` is missing" in err
    assert "require.approvals: unknown key `approvals`" in err


def test_what_another_machine_knows_is_no_fault_of_a_stack(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLRETRAIN_HOME", raising=False)
    assert main(["lint", str(EXAMPLES / "stacks")]) == 0
    assert capsys.readouterr().out.endswith("broken: 0\n")


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


@pytest.mark.parametrize("kind", ["pipeline", "stack", "policy"])
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
    from mlretrain_factory.schema import pipeline_schema, policy_schema, stack_schema
    from mlretrain_factory.source_map import read_source

    golden = [file.parent / "pipeline.yaml" for file in GOLDEN.glob("*/plan.json")]
    for file in [*golden, *(FIXTURES / "good").glob("*.yaml")]:
        jsonschema.validate(read_source(file).data, pipeline_schema())
    for file in [*GOLDEN.glob("*/stacks/*.yaml"), *(EXAMPLES / "stacks").glob("*.yaml")]:
        if file.parts[-3] == "kubernetes":
            continue  # has a faulty team, which is that team's affair
        jsonschema.validate(read_source(file).data, stack_schema())
    for file in [*GOLDEN.glob("*/policies/*.yaml"), *(EXAMPLES / "policies").glob("*.yaml")]:
        jsonschema.validate(read_source(file).data, policy_schema())


@pytest.mark.parametrize("name", ["served-by-typo", "served-roleless", "served-unconnected"])
def test_the_schema_refuses_what_a_target_does_not_take(name: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    from mlretrain_factory.schema import stack_schema
    from mlretrain_factory.source_map import read_source

    stack = read_source(FIXTURES / "malformed" / "stacks" / f"{name}.yaml").data
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(stack, stack_schema())


@pytest.mark.parametrize(
    "arguments", [["serve", "--help"], ["replay", "--help"], ["image", "--help"], ["--version"]]
)
def test_other_commands_are_there(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(arguments)
    assert done.value.code == 0
    assert capsys.readouterr().out
