"""Which MLflow flavour keeps a model, and that each flavour takes what it is given."""

from __future__ import annotations

import inspect
import json
import sys
from types import ModuleType
from typing import Any

import hypothesis
import moto
import pandas as pd
import pyarrow
import pytest
import yaml
from mlflow.pyfunc.model import PythonModel
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from mlretrain.errors import ConfigError, UserCodeError
from mlretrain.runtime import flavors
from mlretrain.runtime.flavors import FLAVORS, flavor_of


def _model_of(module: str, *bases: type) -> Any:
    return type("Model", bases, {"__module__": module})()


@pytest.mark.parametrize(
    ("model", "prediction_method", "flavor"),
    [
        (LogisticRegression(), "predict", "mlflow.sklearn"),
        (_model_of("users.models", LinearRegression), "predict", "mlflow.sklearn"),
        (_model_of("xgboost.sklearn", LogisticRegression), "predict", "mlflow.xgboost"),
        (_model_of("xgboost.sklearn", LogisticRegression), "predict_proba", "mlflow.sklearn"),
        (_model_of("lightgbm.basic"), "predict", "mlflow.lightgbm"),
        (_model_of("torch.nn.modules.module"), "predict", "mlflow.pytorch"),
        (_model_of("keras.src.models"), "predict", "mlflow.keras"),
        (_model_of("statsmodels.regression.linear_model"), "predict", "mlflow.statsmodels"),
        (_model_of("users.models", PythonModel), "predict", "mlflow.pyfunc"),
    ],
)
def test_the_most_specific_known_class_decides(model: Any, prediction_method: str, flavor: str) -> None:
    assert flavor_of(model, prediction_method) == flavor


def test_a_model_of_no_library_lists_the_flavours() -> None:
    with pytest.raises(UserCodeError, match=r"fits a builtins.dict.*catboost, keras, lightgbm.*PythonModel"):
        flavor_of({"weights": 1})


@pytest.mark.parametrize("model", [LinearRegression(), _model_of("lightgbm.basic")])
def test_probabilities_of_a_model_that_has_none(model: Any) -> None:
    with pytest.raises(ConfigError, match="allowed: predict; predict_proba for classifiers"):
        flavor_of(model, "predict_proba")


@pytest.mark.parametrize("name", sorted(set(FLAVORS.values())))
def test_every_flavour_takes_what_it_is_given(name: str) -> None:
    flavor = pytest.importorskip(name, exc_type=ImportError)
    parameters = inspect.signature(flavor.log_model).parameters
    given = {"name", "signature", "input_example", "pip_requirements", "python_model"}
    assert given - {"python_model"} <= set(parameters)
    if name != "mlflow.pyfunc":
        assert flavors._argument(flavor) in {"model", f"{flavors._argument(flavor).split('_')[0]}_model"}


def test_requirements_are_pinned_once() -> None:
    requirements = flavors._requirements(["scikit-learn==1.9.1", "numpy<3"])
    assert requirements[:2] == ["scikit-learn==1.9.1", "numpy<3"]
    assert [each.partition("==")[0] for each in requirements[2:]] == ["pandas"]


def test_requirements_name_what_the_model_is_made_of_and_its_code_imports(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = flavors._parts(make_pipeline(FunctionTransformer(yaml.safe_load), LogisticRegression()))
    assert parts >= {"sklearn", "yaml"}
    code = ModuleType("trainings")
    code.__dict__.update(pq=pyarrow, late=hypothesis.Phase, json=json, rate=0.1, own=flavors.flavor_of)
    code.__file__ = "/dags/trainings/__init__.py"
    nested = ModuleType("trainings.features")
    nested.__dict__.update(moto=moto)
    monkeypatch.setitem(sys.modules, "trainings", code)
    monkeypatch.setitem(sys.modules, "trainings.features", nested)
    imports = flavors._imports(nested)
    assert imports >= {"pyarrow", "hypothesis", "moto", "mlretrain", "json"}
    requirements = flavors._requirements(["scikit-learn==1.9.1"], {*parts, *imports, "no_such_package"})
    named = [each.partition("==")[0] for each in requirements]
    assert named == ["scikit-learn", "hypothesis", "moto", "numpy", "pandas", "pyarrow", "pyyaml"]
    assert flavors._imports(None) == flavors._imports(json) == set()


def test_the_input_example_tells_nothing_of_a_sensitive_column() -> None:
    inputs = pd.DataFrame(
        {
            "distance": [1.0, 2.0, 3.0, 4.0],
            "age": pd.array([None, 31, 30, 30], dtype="Int64"),
            "email": ["ann@x", "bob@x", "n/a", "n/a"],
            "face": [[1.0], [2.0], [3.0], [3.0]],
            "gone": [None] * 4,
        }
    )
    example = flavors._example(inputs, ("age", "email", "face", "gone", "not a feature"))
    assert example["distance"].tolist() == [1.0, 2.0, 3.0]
    assert example["age"].tolist() == [30] * 3
    assert example["email"].tolist() == ["n/a"] * 3
    assert example["face"].tolist() == [[3.0]] * 3
    assert example["gone"].isna().all()
    assert example.dtypes.equals(inputs.dtypes)
