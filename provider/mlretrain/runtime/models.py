"""A kept model's answer to rows: what it would serve, and its predictions in a form that can be scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlretrain.errors import InvalidInput
from mlretrain.runtime.fingerprint import size
from mlretrain.scoring import Predictions

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answer:
    """``served``: the column ``prediction`` of the serving log; ``predictions``: labels and probabilities."""

    served: Sequence[Any]
    predictions: Predictions


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KeptModel:
    """A model as MLflow loads it.

    :param features: the columns it is given if it has no signature.
    :param size: of its files, in bytes.
    """

    loaded: Any
    features: Sequence[str]
    size: int

    @property
    def raw(self) -> Any:
        """The object that was trained; ``None`` where MLflow does not give it back."""
        try:
            return self.loaded.get_raw_model()
        except (AttributeError, NotImplementedError):
            return None

    def inputs(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The columns that it is asked with."""
        schema = self.loaded.metadata.get_input_schema()
        named = schema is not None and schema.has_input_names()
        return fit_to_schema(rows, schema) if named else rows[list(self.features)]

    def ask(self, rows: pd.DataFrame) -> Answer:
        """What it says of ``rows``. Raises whatever MLflow or the model raises."""
        from mlretrain.serving.columns import to_scalars

        inputs = self.inputs(rows)
        answer = self.loaded.predict(inputs)
        return Answer(
            served=to_scalars(answer, len(rows)),
            predictions=_predictions(_classifier(self.raw), inputs, answer),
        )


def load(model_uri: str, features: Sequence[str]) -> KeptModel:
    """The model at ``model_uri``. Raises whatever MLflow raises."""
    import mlflow.artifacts
    import mlflow.pyfunc

    folder = mlflow.artifacts.download_artifacts(artifact_uri=model_uri)
    loaded: Any = mlflow.pyfunc.load_model(folder, suppress_warnings=True)
    return KeptModel(loaded=loaded, features=features, size=size(folder))


def ask(model_uri: str, rows: pd.DataFrame, features: Sequence[str]) -> Answer:
    """What the model at ``model_uri`` says of ``rows``, as :meth:`KeptModel.ask`."""
    return load(model_uri, features).ask(rows)


def fit_to_schema(rows: pd.DataFrame, schema: Any) -> pd.DataFrame:
    """The columns of an MLflow schema, integers as doubles and whole doubles as integers where it asks so.

    A column is read as integers or doubles depending on whether it has nulls, and MLflow takes neither for
    the other.

    :raises InvalidInput: a required column is missing.
    """
    from mlflow.types import DataType

    kinds = {DataType.double: "float64", DataType.long: "int64"}
    missing = [each for each in schema.required_input_names() if each not in rows.columns]
    if missing:
        raise InvalidInput(
            f"the data has no column {', '.join(map(repr, missing))}, which the model needs",
            found=", ".join(map(str, rows.columns)),
        )
    columns = {}
    for name, kind in schema.input_dict().items():
        if name not in rows.columns:
            continue
        column, wanted = rows[name], kinds.get(kind.type)
        if wanted == "float64" and column.dtype.kind in "iu":
            column = column.astype(wanted)
        elif wanted == "int64" and column.dtype.kind in "iuf" and column.notna().all():
            whole = column.astype(wanted)
            column = whole if (whole == column).all() else column
        columns[name] = column
    return rows[list(columns)].assign(**columns)


def _classifier(raw: Any) -> Any:
    """``raw`` if it has probabilities; of several libraries' own making."""
    return raw if hasattr(raw, "predict_proba") and hasattr(raw, "classes_") else None


def _predictions(estimator: Any, inputs: pd.DataFrame, answer: Any) -> Predictions:
    import numpy as np

    if estimator is None:
        values = np.asarray(answer)
        if values.ndim == 2 and values.shape[1] > 1:
            return Predictions(
                values=values.argmax(axis=1), probabilities=values, classes=tuple(range(values.shape[1]))
            )
        return Predictions(values=values.reshape(len(inputs)))
    answered = np.asarray(answer)
    is_probability = answered.ndim == 2 and answered.shape[1] == len(estimator.classes_)
    probabilities = answered if is_probability else np.asarray(estimator.predict_proba(inputs))
    classes = np.asarray(estimator.classes_)
    return Predictions(
        values=classes[probabilities.argmax(axis=1)] if is_probability else answered.reshape(len(inputs)),
        probabilities=probabilities,
        classes=tuple(classes.tolist()),
    )
