from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mlretrain.serving.columns import row_count, to_frame, to_scalars, to_table

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


@dataclass
class Request:
    rows: Any
    predictions: Any
    version: str = "7"
    served_at: datetime = NOON
    request_id: str = "r1"


def table(*requests: Request, known: pa.Schema | None = None) -> pa.Table:
    answered: Sequence[Request] = requests
    return to_table(answered, known)


def test_every_row_bears_its_request_and_its_prediction() -> None:
    found = table(
        Request(pd.DataFrame({"a": [1.5, 2.5], "carrier": ["UA", "B6"]}), np.array([0.1, 0.2])),
        Request(pd.DataFrame({"a": [3.5], "carrier": [None]}), [0.3], version="8", request_id="r2"),
    )

    assert found.to_pylist() == [
        {"a": a, "carrier": carrier, "prediction": p, "model_version": v, "served_at": NOON, "request_id": r}
        for a, carrier, p, v, r in [
            (1.5, "UA", 0.1, "7", "r1"),
            (2.5, "B6", 0.2, "7", "r1"),
            (3.5, None, 0.3, "8", "r2"),
        ]
    ]
    assert found.schema.field("served_at").type == pa.timestamp("us", "UTC")


def test_types_are_those_of_the_files_before() -> None:
    first = table(Request(pd.DataFrame({"n": [1], "x": [1.5], "s": ["a"], "b": [True]}), [1]))
    second = table(Request(pd.DataFrame({"x": [2], "n": [None], "s": [None]}), [1]), known=first.schema)

    assert second.schema == first.schema
    assert second.to_pylist()[0] | {"n": None, "x": 2.0, "s": None, "b": None} == second.to_pylist()[0]


def test_whole_numbers_that_become_fractions_or_texts_widen() -> None:
    first = table(Request(pd.DataFrame({"n": [1], "m": [1], "b": [True]}), [1]))
    second = table(Request(pd.DataFrame({"n": [1.5], "m": ["x"], "b": [3]}), [1]), known=first.schema)

    assert second.schema.field("n").type == pa.float64()
    assert second.schema.field("m").type == pa.string()
    assert second.schema.field("b").type == pa.string()
    third = table(Request(pd.DataFrame({"n": [2], "m": [5], "b": [True]}), [1]), known=second.schema)
    assert third.schema == second.schema


def test_a_column_gets_its_type_with_its_first_value() -> None:
    first = table(Request(pd.DataFrame({"a": [None]}), [1]))
    second = table(Request(pd.DataFrame({"a": ["x"]}), [1]), known=first.schema)

    assert "a" not in first.schema.names
    assert second.schema.field("a").type == pa.string()


def test_values_that_are_no_scalars_are_kept_as_json() -> None:
    found = table(Request(pd.DataFrame({"tags": [["a", "b"], {"k": 1}], "mixed": [1, "x"]}), [1, 2]))

    assert found["tags"].to_pylist() == ['["a", "b"]', '{"k": 1}']
    assert found["mixed"].to_pylist() == ["1", "x"]


def test_a_probability_that_is_no_number_keeps_the_columns_type() -> None:
    probabilities = np.array([[np.nan, np.nan], [0.2, 0.8]])
    found = table(Request(pd.DataFrame({"a": [1, 2]}), probabilities))

    assert found["prediction"].to_pylist() == [None, 0.8]


def test_a_requests_own_prediction_column_is_kept_apart() -> None:
    found = table(Request(pd.DataFrame({"prediction": [9], "served_at": ["then"]}), [1]))

    assert found["prediction"].to_pylist() == [1]
    assert found["input_prediction"].to_pylist() == [9]
    assert found["input_served_at"].to_pylist() == ["then"]


def test_dates_categories_and_narrow_numbers_have_one_type_each() -> None:
    frame = pd.DataFrame(
        {
            "at": pd.to_datetime(["2026-03-02T10:00:00"]),
            "kind": pd.Series(["a"], dtype="category"),
            "small": np.array([1], dtype="int8"),
            "half": np.array([1.5], dtype="float32"),
        }
    )
    schema = table(Request(frame, [1])).schema

    assert [schema.field(name).type for name in frame] == [
        pa.timestamp("us", "UTC"),
        pa.string(),
        pa.int64(),
        pa.float64(),
    ]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (np.array([[1, 2], [3, 4]]), {0: [1, 3], 1: [2, 4]}),
        ({"a": np.array([1, 2]), "b": np.array([3, 4])}, {"a": [1, 2], "b": [3, 4]}),
        ({"text": "hello"}, {"text": ["hello"]}),
        ([{"a": 1}, {"a": 2}], {"a": [1, 2]}),
        (["x", "y"], {"input": ["x", "y"]}),
        ("x", {"input": ["x"]}),
        (np.zeros((2, 1, 1)), {"input": [[[0.0]], [[0.0]]]}),
        ([], {"input": []}),
    ],
)
def test_rows_of_any_shape_become_a_frame(rows: Any, expected: dict[str, list[Any]]) -> None:
    frame = to_frame(rows)

    assert frame.to_dict("list") == expected
    assert row_count(rows) == len(frame)


@pytest.mark.parametrize(
    ("predictions", "expected"),
    [
        (np.array([0.2, 0.8]), [0.2, 0.8]),
        (np.array([[0.2], [0.8]]), [0.2, 0.8]),
        (np.array([[0.8, 0.2], [0.3, 0.7]]), [0.2, 0.7]),
        (np.array([[0.1, 0.2, 0.7], [0.6, 0.3, 0.1]]), [2, 0]),
        (np.array([[10.0, 20.0], [30.0, 40.0]]), [[10.0, 20.0], [30.0, 40.0]]),
        (pd.DataFrame({"y": [1, 2]}), [1, 2]),
        (pd.DataFrame({"no": [0.8, 0.3], "yes": [0.2, 0.7]}), [0.2, 0.7]),
        (pd.Series(["a", "b"]), ["a", "b"]),
        (["a", "b"], ["a", "b"]),
        ({"answer": 1}, [{"answer": 1}, None]),
    ],
)
def test_a_prediction_is_one_value_per_row(predictions: Any, expected: list[Any]) -> None:
    assert to_scalars(predictions, 2) == expected
