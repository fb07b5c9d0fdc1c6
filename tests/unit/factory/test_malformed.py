"""A hundred malformed pipelines: one message each, with place and remedy, and nothing in them executes."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from mlretrain_factory.errors import SpecErrors
from mlretrain_factory.loader import load_folder, load_source, pipeline_files

FIXTURES = Path(__file__).parents[2] / "fixtures"
MALFORMED = FIXTURES / "malformed"
MESSAGES = FIXTURES.parent / "golden" / "malformed.txt"


def test_each_malformed_file_has_one_message(request: pytest.FixtureRequest) -> None:
    result = load_folder(MALFORMED, environ={})
    assert not result.sources
    assert list(result.errors) == pipeline_files(MALFORMED)
    lines = [str(errors).replace(f"{MALFORMED}/", "") for errors in result.errors.values()]
    if request.config.getoption("--update-golden"):
        MESSAGES.write_text("\n".join(lines) + "\n")
    assert "\n".join(lines) + "\n" == MESSAGES.read_text()
    for errors in result.errors.values():
        assert len(errors.errors) == 1
        assert re.match(r"\S[^:]*\.yaml:[1-9]\d*:[1-9]\d*: .+\. .+[.`:…?\"]$", str(errors)), str(errors)


def test_a_hundred_faults_hide_no_good_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(MALFORMED, tmp_path, dirs_exist_ok=True)
    shutil.copytree(FIXTURES / "good", tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    result = load_folder(tmp_path, environ={})
    assert [source.spec.pipeline for source in result.sources] == ["churn", "fraud", "returns", "watched"]
    assert len(result.errors) == len(pipeline_files(MALFORMED))
    assert not (tmp_path / "executed").exists()


def test_all_faults_of_a_file_come_together_in_the_order_of_its_lines(tmp_path: Path) -> None:
    shutil.copytree(FIXTURES / "good", tmp_path, dirs_exist_ok=True)
    file = tmp_path / "churn.pipeline.yaml"
    text = file.read_text().replace("90d", "ninety").replace("target: y", "target: ${label}")
    file.write_text(text + "owner: 3\n")
    [errors] = load_folder(tmp_path, environ={}).errors.values()
    assert [error.path for error in errors.errors] == ["data.training.window", "data.target", "owner"]


def test_a_second_pipeline_of_a_name_is_refused(tmp_path: Path) -> None:
    shutil.copytree(FIXTURES / "good", tmp_path, dirs_exist_ok=True)
    (tmp_path / "z").mkdir()
    shutil.copy(tmp_path / "churn.pipeline.yaml", tmp_path / "z")
    result = load_folder(tmp_path, environ={})
    assert len(result.sources) == 4
    assert "a second pipeline named `churn`" in str(result.errors[tmp_path / "z/churn.pipeline.yaml"])


def test_the_value_of_an_environment_variable_is_in_no_message(tmp_path: Path) -> None:
    shutil.copytree(FIXTURES / "good", tmp_path, dirs_exist_ok=True)
    file = tmp_path / "churn.pipeline.yaml"
    file.write_text(file.read_text().replace("file:///data/rows.parquet", "${env.DATA_ROOT}"))
    [errors] = load_folder(tmp_path, environ={"DATA_ROOT": "hunter2"}).errors.values()
    assert "found '${env.DATA_ROOT}'" in str(errors)
    assert "hunter2" not in str(errors)


@pytest.mark.parametrize(
    ("suite", "message"),
    [
        ("[]", "not a Great Expectations 1.x suite"),
        ('{"expectations": [{"type": "expect_nothing", "kwargs": {}}]}', "unknown expectation"),
        ('{"expectations": [{"type": "expect_column_to_exist", "kwargs": {"col": 1}}]}', "takes no `col`"),
    ],
)
def test_a_suite_file_is_checked_too(tmp_path: Path, suite: str, message: str) -> None:
    shutil.copytree(FIXTURES / "good", tmp_path, dirs_exist_ok=True)
    with (tmp_path / "churn.pipeline.yaml").open("a") as file:
        file.write("validate: {suite: rows.json}\n")
    (tmp_path / "rows.json").write_text(suite)
    [errors] = load_folder(tmp_path, environ={}).errors.values()
    assert message in str(errors)


def test_a_good_suite_becomes_part_of_the_source(tmp_path: Path) -> None:
    shutil.copytree(FIXTURES / "good", tmp_path, dirs_exist_ok=True)
    with (tmp_path / "churn.pipeline.yaml").open("a") as file:
        file.write("validate: {suite: rows.json}\n")
    (tmp_path / "rows.json").write_text(
        '{"name": "rows", "expectations": [{"type": "expect_column_to_exist", "kwargs": {"column": "y"}}]}'
    )
    suite = load_source(tmp_path / "churn.pipeline.yaml", {}, tmp_path).suite
    assert suite is not None
    assert suite["name"] == "rows"


def test_one_unset_variable_is_one_fault_wherever_it_is_used(tmp_path: Path) -> None:
    good = (FIXTURES / "malformed" / "environment-not-set.pipeline.yaml").read_text()
    (tmp_path / "stacks").mkdir()
    (tmp_path / "stacks" / "local.yaml").write_text(
        "version: 1\nbackend: local\nartifacts_uri: file://${root}\nregistry: {conn_id: mlflow_default}\n"
        "env: [DATA_ROOT]\nvars: {root: '${env.DATA_ROOT}'}\n"
    )
    path = tmp_path / "environment-not-set.pipeline.yaml"
    path.write_text(good.replace("${env.DATA_ROOT}", "${root}"))
    with pytest.raises(SpecErrors) as caught:
        load_source(path, {}, tmp_path)
    [fault] = caught.value.errors
    assert "`DATA_ROOT` is not set" in fault.message
