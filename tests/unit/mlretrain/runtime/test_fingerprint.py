"""What a packaged model's fingerprints notice, and what they do not mind."""

from __future__ import annotations

import py_compile
from collections.abc import Callable
from pathlib import Path

import pytest

from mlretrain.errors import InvalidInput
from mlretrain.runtime.fingerprint import MODEL_TAG, SIGNATURE_TAG, check, fingerprint, signature_digest

MLMODEL = """flavors:
  python_function:
    loader_module: mlflow.sklearn
signature:
  inputs: '[{"type": "double", "name": "distance", "required": true}, {"type":
    "string", "name": "carrier"}]'

  outputs: null
utc_time_created: '2026-03-09 06:00:00'
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "code").mkdir(parents=True)
    (folder / "MLmodel").write_text(MLMODEL)
    (folder / "model.pkl").write_bytes(b"weights")
    (folder / "code" / "features.py").write_text("RATE = 1\n")
    return folder


def tags(model: Path) -> dict[str, str]:
    return {MODEL_TAG: fingerprint(model), SIGNATURE_TAG: signature_digest(model)}


def test_a_model_that_is_downloaded_and_used_is_the_same(model: Path) -> None:
    registered = tags(model)
    (model / "registered_model_meta").write_text("model_name: flights\nmodel_version: '7'\n")
    py_compile.compile(str(model / "code" / "features.py"))
    assert list(model.rglob("*.pyc"))
    check(model, registered, where="models:/flights/7")


def test_another_place_is_the_same_model(model: Path) -> None:
    before = fingerprint(model)
    assert fingerprint(model.rename(model.with_name("elsewhere"))) == before


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda model: (model / "model.pkl").write_bytes(b"Weights"),
    "name": lambda model: (model / "model.pkl").rename(model / "model.bin"),
    "another file": lambda model: (model / "code" / "sitecustomize.py").write_text(""),
    "no file": lambda model: (model / "code" / "features.py").unlink(),
    "code that is run unseen": lambda model: py_compile.compile(
        str(model / "code" / "features.py"), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
    ),
    "the version's note, elsewhere": lambda model: (model / "code" / "registered_model_meta").write_text(""),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_model_is_refused(model: Path, change: Callable[[Path], object]) -> None:
    registered = tags(model)
    change(model)
    with pytest.raises(
        InvalidInput, match="models:/flights/7: the model is not what was registered"
    ) as error:
        check(model, registered, where="models:/flights/7")
    assert "signature" not in str(error.value)
    assert registered[MODEL_TAG] in str(error.value)


def test_a_changed_signature_is_named(model: Path) -> None:
    registered = tags(model)
    (model / "MLmodel").write_text(MLMODEL.replace('"carrier"', '"tail"'))
    with pytest.raises(InvalidInput, match="other files and signature"):
        check(model, registered, where="v7")
    with pytest.raises(InvalidInput, match="other signature"):
        check(model, {SIGNATURE_TAG: registered[SIGNATURE_TAG]}, where="v7")


def test_a_signature_is_the_same_in_another_version(model: Path) -> None:
    before = signature_digest(model)
    (model / "MLmodel").write_text(MLMODEL.replace("2026", "2027").replace("sklearn", "xgboost"))
    assert signature_digest(model) == before


def test_a_signature_that_appears_or_vanishes_is_noticed(model: Path) -> None:
    before = signature_digest(model)
    (model / "MLmodel").write_text("flavors: {}\n")
    assert signature_digest(model) != before


def test_a_version_without_tags_asks_for_nothing(tmp_path: Path) -> None:
    check(tmp_path, {"mlretrain.pipeline": "flights"}, where="v1")


def test_a_folder_without_a_model_has_no_fingerprint(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="there is no MLflow model"):
        fingerprint(tmp_path)
