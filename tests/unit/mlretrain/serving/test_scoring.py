"""What the server loads is what was registered, in a real MLflow."""

from __future__ import annotations

import gc
import os
import warnings
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.pyfunc.model import PythonModel

from mlretrain.runtime.fingerprint import MODEL_TAG, SIGNATURE_TAG, fingerprint, signature_digest
from mlretrain.serving.router import LoadFailed
from mlretrain.serving.scoring import MlflowLoader


class Constant(PythonModel):
    """Writes a file when it is loaded, and says the same of every row."""

    def load_context(self, context: object) -> None:
        Path(os.environ["LOADED"]).touch()

    def predict(self, context: object, model_input: pd.DataFrame, params: object = None) -> np.ndarray:
        return np.zeros(len(model_input))


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Exists once a model has been loaded."""
    monkeypatch.setenv("LOADED", str(tmp_path / "loaded"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "scratch").mkdir()
    return tmp_path / "loaded"


@pytest.fixture
def registered(tmp_path: Path, loaded: Path) -> tuple[MlflowLoader, Path]:
    """A loader, and where version 1 of ``late`` is kept."""
    uri, artifacts = f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "artifacts"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's, of its own making
        mlflow.set_tracking_uri(uri)
        client = mlflow.MlflowClient(uri)
        experiment = client.create_experiment("late", artifacts.as_uri())
        mlflow.set_experiment(experiment_id=experiment)
        info = mlflow.pyfunc.log_model(
            name="model",
            python_model=Constant(),
            pip_requirements=["pandas"],
            input_example=pd.DataFrame({"x": [1.0]}),
        )
        (folder,) = (each.parent for each in artifacts.rglob("MLmodel"))
        client.create_registered_model("late")
        tags = {MODEL_TAG: fingerprint(folder), SIGNATURE_TAG: signature_digest(folder)}
        client.create_model_version("late", info.model_uri, tags=tags, model_id=info.model_id)
    loaded.unlink()
    return MlflowLoader(uri), folder


def test_an_unchanged_version_is_loaded_again_and_again(
    registered: tuple[MlflowLoader, Path], loaded: Path
) -> None:
    load, _ = registered
    apps = [load("late", "1"), load("late", "1")]
    assert loaded.exists()
    assert len(list((loaded.parent / "scratch").iterdir())) == 2
    apps.clear()
    gc.collect()
    assert not list((loaded.parent / "scratch").iterdir()), "what nobody serves any more is not kept"


def test_a_changed_model_is_not_even_unpickled(registered: tuple[MlflowLoader, Path], loaded: Path) -> None:
    load, folder = registered
    (folder / "python_model.pkl").write_bytes((folder / "python_model.pkl").read_bytes() + b"\n")
    with pytest.raises(LoadFailed, match="models:/late/1: the model is not what was registered: other files"):
        load("late", "1")
    assert not loaded.exists()
    assert not list((loaded.parent / "scratch").iterdir())


def test_a_changed_signature_is_named(registered: tuple[MlflowLoader, Path]) -> None:
    load, folder = registered
    text = (folder / "MLmodel").read_text()
    (folder / "MLmodel").write_text(text.replace('"name": "x"', '"name": "y"'))
    with pytest.raises(LoadFailed, match="other files and signature"):
        load("late", "1")
