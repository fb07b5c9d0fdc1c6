"""Validation with real Great Expectations: what fails, how it is said, what is kept."""

from __future__ import annotations

import json
import re
from typing import Any

import pandas as pd
import pytest

from mlretrain.data.dataset import read_dataset
from mlretrain.data.read import read_frame
from mlretrain.errors import ConfigError, InvalidInput
from mlretrain.runtime.expectations import parse_expectations
from mlretrain.runtime.store import read_uri
from mlretrain.steps import validate

from .conftest import MakeContext, MakeDataset

FRAME = pd.DataFrame({"delay": [1.0, None, 3.0, 4.0], "carrier": ["AA", "B6", "??", "AA"]})


@pytest.fixture
def run(make_context: MakeContext, make_dataset: MakeDataset) -> Any:
    def run_validate(*expectations: dict[str, Any], frame: pd.DataFrame = FRAME, **config: Any) -> Any:
        given = validate.Config(dataset_uri=make_dataset(frame), expectations=expectations, **config)
        return validate.run(given, make_context("validate"))

    return run_validate


def test_data_that_meets_its_expectations_passes(run: Any) -> None:
    result = run(
        {"type": "expect_column_values_to_not_be_null", "column": "delay", "mostly": 0.7},
        {"type": "expect_table_row_count_to_be_between", "min_value": 1},
    )
    assert (result["passed"], result["failures"], result["rows"]) == (True, [], 4)
    kept = json.loads(read_uri(result["result_uri"]))
    assert kept["success"] is True
    assert len(kept["results"]) == 2


def test_each_failure_is_one_clear_sentence(run: Any) -> None:
    result = run(
        {"type": "expect_column_values_to_not_be_null", "column": "delay", "mostly": 0.95},
        {"type": "expect_column_values_to_be_in_set", "column": "carrier", "value_set": ["AA", "B6"]},
        {"type": "expect_table_row_count_to_be_between", "min_value": 10},
        {"type": "expect_column_values_to_not_be_null", "column": "dealy"},
    )
    null, unknown, short, missing = (each["message"] for each in result["failures"])
    assert result["passed"] is False
    assert null == "delay: expect_column_values_to_not_be_null — 25 % null, allowed 5 %"
    assert unknown == "carrier: expect_column_values_to_be_in_set — 25 % unexpected ('??'), allowed 0 %"
    assert short == "table: expect_table_row_count_to_be_between — observed 4, allowed min_value 10"
    assert missing.startswith("dealy: expect_column_values_to_not_be_null — could not be checked: ")
    assert 'The column "dealy" in BatchData does not exist' in missing


@pytest.mark.parametrize("severity", ["warning", "info"])
def test_a_mild_failure_is_told_and_passes(run: Any, severity: str) -> None:
    result = run(
        {"type": "expect_column_values_to_not_be_null", "column": "delay", "severity": severity},
    )
    assert result["passed"] is True
    assert [each["severity"] for each in result["failures"]] == [severity]


def test_a_suite_file_is_merged(run: Any) -> None:
    suite = {
        "name": "flights",
        "expectations": [
            {"type": "expect_column_to_exist", "kwargs": {"column": "origin"}, "severity": "warning"},
            {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "delay"}, "meta": {"a": 1}},
        ],
    }
    result = run({"type": "expect_column_to_exist", "column": "delay"}, suite=suite)
    assert result["expectations"] == 3
    assert [(each["column"], each["severity"]) for each in result["failures"]] == [
        ("origin", "warning"),
        ("delay", "critical"),
    ]


def test_the_same_expectation_twice_is_checked_twice(run: Any) -> None:
    once = {"type": "expect_column_to_exist", "column": "origin"}
    assert len(run(once, once)["failures"]) == 2


def test_the_page_tells_the_verdict_and_the_failures_first(run: Any) -> None:
    result = run(
        {"type": "expect_column_to_exist", "column": "delay"},
        {"type": "expect_column_values_to_not_be_null", "column": "delay", "severity": "warning"},
        {"type": "expect_column_values_to_be_in_set", "column": "carrier", "value_set": ["<AA>", "B6"]},
    )
    page = read_uri(result["docs_uri"]).decode()
    assert "The data does not pass" in page
    assert "2 of 3 expectations are not met: 1 critical, 1 warning." in page
    assert page.index("to be in set") < page.index("not be null") < page.index("column to exist")
    assert "&lt;AA&gt;" in page
    assert "<AA>" not in page
    assert "http" not in page


def test_data_docs_are_kept_as_a_site(run: Any) -> None:
    result = run({"type": "expect_column_to_exist", "column": "delay"})
    page = read_uri(result["docs_uri"]).decode()
    assert "The data passes" in page
    assert "All 1 expectations are met." not in page
    folder = result["docs_uri"].rpartition("/")[0]
    [own] = re.findall(r'href="(docs/validations/[^"]+)"', page)
    assert b"delay" in read_uri(f"{folder}/{own}")
    assert 'href="expectations/flight-delay.html"' in read_uri(f"{folder}/docs/index.html").decode()


def test_quarantine_sets_the_failing_rows_aside(run: Any) -> None:
    result = run(
        {"type": "expect_column_values_to_not_be_null", "column": "delay"},
        {"type": "expect_column_values_to_be_in_set", "column": "carrier", "value_set": ["AA", "B6"]},
        on_failure="quarantine",
    )
    assert (result["passed"], result["quarantined_rows"]) == (True, 2)
    kept = read_dataset(result["dataset_uri"])
    assert kept.rows == 2
    assert read_frame(kept)["delay"].tolist() == [1.0, 4.0]


def test_quarantine_cannot_mend_a_table(run: Any) -> None:
    result = run({"type": "expect_table_row_count_to_be_between", "min_value": 10}, on_failure="quarantine")
    assert (result["passed"], result["quarantined_rows"]) == (False, 0)


def test_quarantine_of_everything_is_an_error(run: Any) -> None:
    with pytest.raises(InvalidInput, match="every row fails"):
        run(
            {"type": "expect_column_values_to_be_in_set", "column": "carrier", "value_set": ["ZZ"]},
            on_failure="quarantine",
        )


@pytest.mark.parametrize(
    ("expectation", "message"),
    [
        ({"type": "expect_column_to_exists", "column": "a"}, r"Did you mean expect_column_to_exist\?"),
        (
            {"type": "expect_column_to_exist"},
            r"expectations\[0\]: .* has wrong arguments",
        ),
        ({"type": "expect_column_to_exist", "column": "a", "severity": "high"}, "allowed: critical, warning"),
        ({"column": "a"}, "an expectation needs a type"),
    ],
)
def test_a_wrong_expectation_says_what_is_right(run: Any, expectation: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(expectation)


def test_suite_files_of_older_versions_are_read() -> None:
    suite = {"expectations": [{"expectation_type": "expect_column_to_exist", "kwargs": {"column": "a"}}]}
    assert [each.type for each in parse_expectations((), suite)] == ["expect_column_to_exist"]
