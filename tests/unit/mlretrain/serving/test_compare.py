from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlretrain.serving.compare import Comparison, compare


@pytest.mark.parametrize(
    ("served", "mirrored", "differing", "differences"),
    [
        (np.array([1.0, 2.0]), np.array([1.0, 2.5]), 1, (0.0, 0.5)),
        (np.array([1.0, 0.0]), np.array([1.0 + 1e-7, 0.0]), 0, (pytest.approx(1e-7), 0.0)),
        (np.array([1.0, 2.0]), np.array([1.0 + 1e-5, 2.0]), 1, (pytest.approx(1e-5), 0.0)),
        ([1, 2], [1, 3], 1, (0.0, 1.0)),
        (np.array([np.nan, 1.0]), np.array([np.nan, np.nan]), 1, ()),
        (np.array([np.inf, np.inf]), np.array([np.inf, 1.0]), 1, ()),
        (pd.DataFrame({"no": [0.9, 0.2], "yes": [0.1, 0.8]}), np.array([0.1, 0.8]), 0, (0.0, 0.0)),
        (["a", "b"], ["a", "c"], 1, ()),
        (np.array([True, False]), np.array([True, True]), 1, ()),
        ([1.0, None], [1.0, None], 0, (0.0,)),
        (["a", "b"], [1.0, 2.0], 2, ()),
        ([{"x": 1}, [1, 2]], [{"x": 1}, [1, 3]], 1, ()),
    ],
)
def test_answers_are_compared_row_by_row(
    served: Any, mirrored: Any, differing: int, differences: tuple[Any, ...]
) -> None:
    assert compare(served, mirrored, 2) == Comparison(rows=2, differing=differing, differences=differences)


def test_an_answer_that_is_not_one_value_per_row_is_compared_as_a_whole() -> None:
    assert compare("done", "failed", 3) == Comparison(rows=3, differing=1)
