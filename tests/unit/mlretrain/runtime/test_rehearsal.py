"""What a packaged model's rehearsal sees: loads, answers, deaths, and what it keeps from the model."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # MLflow's, of its own making
    import mlflow.pyfunc
    from mlflow.models import infer_signature
    from mlflow.pyfunc.model import PythonModel

from mlretrain.runtime.flavors import stored_by_value
from mlretrain.runtime.rehearsal import Rehearsal, plain, rehearse, rehearse_apart

EXAMPLE = pd.DataFrame({"x": [1.0, 2.0, 3.0]})


class Model(PythonModel):
    """Answers with ``act(rows)``; loads with ``begin()``."""

    def __init__(
        self, act: Callable[[pd.DataFrame], Any], begin: Callable[[], object] = lambda: None
    ) -> None:
        self.act, self.begin = act, begin

    def load_context(self, context: object) -> None:
        self.begin()

    def predict(self, context: object, model_input: pd.DataFrame, params: object = None) -> Any:
        return self.act(model_input)


Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def save_model(model: Model, **arguments: Any) -> Path:
        folder = tmp_path / "model"
        with warnings.catch_warnings(), stored_by_value(sys.modules[__name__]):
            warnings.simplefilter("ignore")
            given = {"signature": infer_signature(EXAMPLE), "input_example": EXAMPLE} | arguments
            mlflow.pyfunc.save_model(str(folder), python_model=model, pip_requirements=["pandas"], **given)
        return folder

    return save_model


def double(rows: pd.DataFrame) -> Any:
    return rows["x"].to_numpy() * 2


def breaks(what: BaseException) -> Callable[..., Any]:
    def act(*args: object) -> Any:
        raise what

    return act


def apart(folder: Path, **env: str) -> Rehearsal:
    return rehearse_apart(folder, env={**os.environ, **env}, longest_s=60)


def test_here_and_apart_a_model_says_the_same(save: Save) -> None:
    folder = save(Model(double))
    here, there = rehearse(folder), apart(folder)
    assert (here.loaded, here.rows, here.answered, here.answer) == (True, 3, 3, [2.0, 4.0, 6.0])
    assert (here.misfit, here.failure) == (None, None)
    assert {**vars_of(there), "seconds": None} == {**vars_of(here), "seconds": None}
    assert there.seconds.keys() == {"load", "answer"}


def vars_of(rehearsal: Rehearsal) -> dict[str, Any]:
    return {name: getattr(rehearsal, name) for name in Rehearsal.__slots__}


def test_what_the_model_raises_is_the_failure(save: Save) -> None:
    found = rehearse(save(Model(breaks(KeyError("carrier")))))
    assert (found.loaded, found.rows, found.failure) == (True, 3, "KeyError: 'carrier'")


def test_a_model_that_cannot_be_loaded(save: Save) -> None:
    found = rehearse(save(Model(double, breaks(ModuleNotFoundError("No module named 'holidays'")))))
    assert (found.loaded, found.failure) == (False, "ModuleNotFoundError: No module named 'holidays'")


def test_a_model_without_an_input_example_is_loaded_only(save: Save) -> None:
    found = rehearse(save(Model(double), input_example=None))
    assert (found.loaded, found.rows, found.answer, found.failure) == (True, None, None, None)


def test_an_answer_that_is_not_what_the_signature_says(save: Save) -> None:
    signature = infer_signature(EXAMPLE, np.array([1, 2, 3]))
    found = rehearse(save(Model(double), signature=signature))
    assert found.misfit is not None
    assert "int64" in found.misfit


def test_a_model_that_kills_its_process_only_fails(save: Save) -> None:
    found = apart(save(Model(double, lambda: os.abort())))
    assert (found.loaded, found.failure) == (False, "its process was killed by SIGABRT on the way")


def test_a_model_that_never_answers_is_not_waited_for(save: Save) -> None:
    folder = save(Model(double, lambda: time.sleep(600)))
    found = rehearse_apart(folder, env=os.environ, longest_s=0.5)
    assert found.failure == "no answer within 0.5 s"


def test_the_model_gets_neither_credentials_nor_the_pipelines_code(save: Save) -> None:
    seen = (
        "MLFLOW_TRACKING_PASSWORD",
        "AWS_SECRET_ACCESS_KEY",
        "MLRETRAIN_CODE_PATHS",
        "PYTHONPATH",
        "MLRETRAIN_LOCAL_JOB",
    )
    folder = save(Model(lambda rows: [",".join(name for name in seen if name in os.environ)] * len(rows)))
    found = apart(folder, **dict.fromkeys(seen, "secret"))
    assert found.answer == ["MLRETRAIN_LOCAL_JOB"] * 3, "by which its backend finds it"


@pytest.mark.parametrize(
    ("value", "json"),
    [
        (np.array([[0.25, np.nan], [np.inf, 1.0]]), [[0.25, None], [None, 1.0]]),
        (pd.DataFrame({"a": [1, 2], 3: ["x", None]}), {"a": [1, 2], "3": ["x", None]}),
        (pd.Series([True, None], dtype="boolean"), [True, None]),
        (pd.Series([pd.Timestamp("2013-01-01"), pd.NaT]), ["2013-01-01 00:00:00", None]),
        (scipy.sparse.csr_matrix([[0, 1]]), [[0, 1]]),
        ({"p": np.float32(0.5), "q": ["a", np.int64(3)]}, {"p": 0.5, "q": ["a", 3]}),
        ("yes", "yes"),
    ],
)
def test_answers_of_any_kind_are_plain(value: Any, json: Any) -> None:
    assert plain(value) == json
