"""Users' gates: what counts as an answer, and that everything else is a no."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlretrain.gates.evaluation import Evaluation, FunctionResult, Scores
from mlretrain.gates.function import Evidence, ask
from mlretrain.scoring import Predictions


@pytest.fixture
def module() -> Iterator[ModuleType]:
    """The user's module ``own_gates``."""
    sys.modules["own_gates"] = module = ModuleType("own_gates")
    yield module
    del sys.modules["own_gates"]


@pytest.fixture
def evidence() -> Evidence:
    return Evidence(
        evaluation=Evaluation(
            holdout_sha256="a", rows=3, candidate=Scores(holdout_sha256="a", metrics={"f1": 0.5})
        ),
        rows=pd.DataFrame({"late": [0, 1, 1]}),
        target="late",
        candidate=Predictions(values=np.array([0.0, 1.0, 0.0])),
    )


def said(module: ModuleType, evidence: Evidence, check: Callable[[Evidence], Any]) -> FunctionResult:
    module.check = check  # type: ignore[attr-defined]
    return ask("own_gates:check", evidence)


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (True, FunctionResult(passed=True)),
        (False, FunctionResult(passed=False)),
        (np.True_, FunctionResult(passed=True)),
        ((True, 0.123456, "≤ 0.2"), FunctionResult(passed=True, observed="0.1235", required="≤ 0.2")),
        ((np.False_, np.float32(2), None), FunctionResult(passed=False, observed="2")),
        ((True, 7, 8), FunctionResult(passed=True, observed="7", required="8")),
    ],
)
def test_answers(module: ModuleType, evidence: Evidence, answer: Any, result: FunctionResult) -> None:
    assert said(module, evidence, lambda _: answer) == result


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (None, "returned None; allowed: bool, or (bool, observed, required)"),
        (1, "returned int;"),
        ("yes", "returned str;"),
        ((True,), "returned bool;"),
        ((1, 2, 3), "returned int, int, int;"),
        (pd.Series([True]), "returned Series;"),
        ((True, float("nan"), "≤ 1"), "observed nan"),
        ((True, np.float64("inf"), "≤ 1"), "observed inf"),
    ],
)
def test_all_else_is_a_no(module: ModuleType, evidence: Evidence, answer: Any, error: str) -> None:
    result = said(module, evidence, lambda _: answer)
    assert not result.passed
    assert str(result.error).startswith(error)


def test_what_it_raises_is_a_no_with_its_words(module: ModuleType, evidence: Evidence) -> None:
    def check(_: Evidence) -> bool:
        raise ValueError("no rows of\n  UA" + "!" * 500)

    result = said(module, evidence, check)
    assert str(result.error).startswith("ValueError: no rows of UA!")
    assert len(str(result.error)) == 200


def test_leaving_is_a_no_too(module: ModuleType, evidence: Evidence) -> None:
    assert said(module, evidence, lambda _: sys.exit(0)).error == "SystemExit: 0"


def test_a_function_that_is_not_there_is_a_no(module: ModuleType, evidence: Evidence) -> None:
    for name, words in {
        "own_gates:chekc": "has no function 'chekc'",
        "not_here:check": "there is no module 'not_here'",
        "own_gates": "names no function",
    }.items():
        result = ask(name, evidence)
        assert not result.passed
        assert words in str(result.error)


def test_it_can_change_nothing_of_the_evidence(module: ModuleType, evidence: Evidence) -> None:
    def check(given: Evidence) -> bool:
        given.evaluation.candidate.metrics["f1"] = 1.0  # type: ignore[index]
        given.rows["late"] = 1
        given.candidate.values[:] = 1
        return True

    assert said(module, evidence, check).passed
    assert evidence.evaluation.candidate.metrics == {"f1": 0.5}
    assert evidence.rows["late"].tolist() == [0, 1, 1]
    assert evidence.candidate.values.tolist() == [0, 1, 0]
