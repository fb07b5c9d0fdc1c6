"""Durations, sizes, cores, secrets, cron expressions and the table of expectations."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from mlretrain_factory.spec.cron import check_cron
from mlretrain_factory.spec.environ import looks_secret
from mlretrain_factory.spec.quantity import format_duration, parse_cpu, parse_duration, parse_size
from mlretrain_factory.spec.validation import expectations


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("90d", timedelta(days=90)),
        ("1h30m", timedelta(minutes=90)),
        ("2w", timedelta(days=14)),
        ("3s", timedelta(seconds=3)),
    ],
)
def test_durations(text: str, length: timedelta) -> None:
    assert parse_duration(text) == length


@pytest.mark.parametrize(
    "text", ["", "7", "7 d", "d", "-7d", "0d", "1m1h", "7D", "9999999d", "999999w", 7, None, True]
)
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(PydanticCustomError):
        parse_duration(text)


@given(st.integers(min_value=1, max_value=999_999))
def test_a_duration_is_read_as_it_is_written(seconds: int) -> None:
    assert parse_duration(format_duration(timedelta(seconds=seconds))).total_seconds() == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [("4Gi", 4 * 2**30), ("512Mi", 2**29), ("1.5Gi", 3 * 2**29), ("500M", 500_000_000), ("64k", 64_000)],
)
def test_sizes_are_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("value", ["4", 4, "4GB", "4 Gi", "-4Gi", "0Gi", "Gi", "9999Ti", "0.1k4", None, True])
def test_what_is_no_size(value: object) -> None:
    with pytest.raises(PydanticCustomError):
        parse_size(value)


@pytest.mark.parametrize(("value", "cores"), [(2, 2.0), (0.5, 0.5), ("500m", 0.5), ("1500m", 1.5)])
def test_cores(value: object, cores: float) -> None:
    assert parse_cpu(value) == cores


@pytest.mark.parametrize("value", [0, -1, True, "2", "0m", "1.5m", 5000, None, "half"])
def test_what_is_no_number_of_cores(value: object) -> None:
    with pytest.raises(PydanticCustomError):
        parse_cpu(value)


@pytest.mark.parametrize(
    "value",
    [
        "AKIAIOSFODNN7EXAMPLE",
        "postgresql://ml:hunter2@db/ml",
        "host=db password=hunter2",
        "-----BEGIN RSA PRIVATE KEY-----",
    ],
)
def test_what_looks_like_a_secret(value: str) -> None:
    assert looks_secret(value)


@pytest.mark.parametrize(
    "value", ["info", "https://pypi.example/simple", "s3://ml/a@b", "password", "tokens=3"]
)
def test_what_does_not(value: str) -> None:
    assert not looks_secret(value)


CRONS = ["0 6 * * 1", "*/15 * * * *", "0 0 1,15 * mon-fri", "30 4 L * *", "0 0 * jan-mar sun", "5 0 * * 5#2"]


@pytest.mark.parametrize("text", CRONS)
def test_a_cron_that_is_accepted_is_one_for_airflow(text: str) -> None:
    croniter = pytest.importorskip("croniter")
    assert check_cron(text) == text
    assert croniter.croniter.is_valid(text)


@pytest.mark.parametrize(
    "text", ["", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "a b c d e"]
)
def test_a_cron_that_is_refused_is_none_for_airflow_either(text: str) -> None:
    croniter = pytest.importorskip("croniter")
    with pytest.raises(PydanticCustomError):
        check_cron(text)
    assert not croniter.croniter.is_valid(text)


@pytest.mark.parametrize("text", ["5-1 * * * *", "*/0 * * * *", "1/5 * * * *", "@dailyy", "0 6 * * * *"])
def test_other_crons_that_are_refused(text: str) -> None:
    with pytest.raises(PydanticCustomError):
        check_cron(text)


@pytest.mark.filterwarnings("ignore")
def test_the_table_of_expectations_is_great_expectations_own() -> None:
    pytest.importorskip("great_expectations")
    from great_expectations.expectations.registry import (
        get_expectation_impl,
        list_registered_expectation_implementations,
    )

    ours = {"batch_id", "catch_exceptions", "id", "library_metadata", "rendered_content", "result_format"}
    ours |= {
        "severity",
        "windows",
    }  # severity is a key of our own, the others belong to GX Cloud or to the run
    installed = {
        name: sorted(set(get_expectation_impl(name).__fields__) - ours)
        for name in list_registered_expectation_implementations()
    }
    assert dict(expectations()) == installed
