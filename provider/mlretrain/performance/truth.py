"""A log's predictions and the labels that came for them, in the terms that metrics are scored in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mlretrain.errors import InvalidInput
from mlretrain.performance.calibration import Calibration, Class
from mlretrain.performance.estimate import ESTIMABLE
from mlretrain.performance.policy import Group
from mlretrain.scoring import PROBABILITY_METRICS, Array, Predictions

GROUPS = 10

Kind = Literal["probability", "class", "number"]

_NUMERIC = "biuf"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judged:
    """Rows whose prediction and truth are both known.

    :param truth: 0 and 1 where the predictions are probabilities.
    """

    kind: Kind
    truth: Array
    predictions: Predictions

    @property
    def metrics(self) -> tuple[str, ...]:
        """All that can be scored."""
        if self.kind == "number":
            return ("rmse", "mae", "r2")
        return tuple(sorted(ESTIMABLE if self.kind == "probability" else ESTIMABLE - PROBABILITY_METRICS))

    def groups(self) -> tuple[Group, ...]:
        """The rows by their predictions."""
        if self.kind == "class":
            return _classes(self.truth, self.predictions.values)
        return by_prediction(self.predictions.values, self.truth.astype(float))


def judged(metric: str, predictions: Array, labels: Array, calibration: Calibration | None) -> Judged:
    """The rows as ``metric`` takes them.

    :param predictions: the log's column.
    :param calibration: what it means; without, that is read off the values.
    :raises InvalidInput: labels and predictions do not belong together, or do not suit the metric.
    """
    served = calibration.served if calibration else _guess(predictions, labels)
    classes = calibration.classes if calibration else ()
    if served == "probability":
        return Judged(
            kind="probability",
            truth=_positives(labels, classes or (0, 1)),
            predictions=Predictions(values=probabilities(predictions)),
        )
    if metric in PROBABILITY_METRICS:
        raise InvalidInput(
            f"{metric} needs probabilities, and the champion serves its answers without",
            remedy="Train with prediction_method: predict_proba, or measure accuracy or f1.",
        )
    if metric not in ESTIMABLE:
        return Judged(kind="number", truth=labels, predictions=Predictions(values=predictions))
    if served == "position":
        predictions = _at(classes, predictions)
    _check_alike(predictions, labels)
    known = set(labels.tolist()) <= set(classes)
    values = Predictions(values=predictions, classes=classes if known else ())
    return Judged(kind="class", truth=labels, predictions=values)


def probabilities(predictions: Array) -> Array:
    """The column as probabilities. Raises :class:`InvalidInput` if it holds none."""
    if predictions.dtype.kind in _NUMERIC:
        values = predictions.astype(float)
        if ((values >= 0) & (values <= 1)).all():
            return values
    raise InvalidInput(
        "the predictions are no probabilities, as the champion's were on its holdout",
        found=f"{min(predictions)!s} to {max(predictions)!s}",
        allowed="numbers from 0 to 1",
    )


def by_prediction(values: Array, observed: Array) -> tuple[Group, ...]:
    """Tenths of the rows, from the smallest predictions to the largest."""
    import numpy as np

    edges = np.unique(np.quantile(values, np.arange(1, GROUPS) / GROUPS))
    groups = np.searchsorted(edges, values, side="right")
    sizes, totals, means = (np.bincount(groups, each) for each in (np.ones(len(values)), values, observed))
    return tuple(
        Group(predicted=float(total / size), observed=float(mean / size), rows=int(size))
        for size, total, mean in zip(sizes, totals, means, strict=True)
        if size
    )


def _classes(truth: Array, values: Array) -> tuple[Group, ...]:
    """The most frequent predicted classes, with the share of right answers."""
    import numpy as np

    names, counts = np.unique(values, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:GROUPS]
    return tuple(
        Group(
            predicted=str(names[each]),
            observed=float((truth[values == names[each]] == names[each]).mean()),
            rows=int(counts[each]),
        )
        for each in order
    )


def _guess(predictions: Array, labels: Array) -> Literal["probability", "value"]:
    import numpy as np

    if predictions.dtype.kind != "f" or labels.dtype.kind not in _NUMERIC:
        return "value"
    within = ((predictions >= 0) & (predictions <= 1)).all() and (predictions != np.floor(predictions)).any()
    return "probability" if within and np.isin(labels, (0, 1)).all() else "value"


def _positives(labels: Array, classes: tuple[Class, ...]) -> Array:
    unknown = [each for each in set(labels.tolist()) if each not in classes]
    if unknown:
        raise InvalidInput(
            "a label is none of the champion's classes",
            found=repr(min(unknown, key=str)),
            allowed=", ".join(map(repr, classes)),
        )
    return (labels == classes[1]).astype(int)


def _at(classes: tuple[Class, ...], positions: Array) -> Array:
    import numpy as np

    if positions.dtype.kind in _NUMERIC:
        places = positions.astype(int)
        if ((places >= 0) & (places < len(classes))).all():
            return np.asarray(classes)[places]
    raise InvalidInput(
        "the predictions are no positions of classes, as the champion's were on its holdout",
        found=f"{min(positions)!s} to {max(positions)!s}",
        allowed=f"0 to {len(classes) - 1}",
    )


def _check_alike(predictions: Array, labels: Array) -> None:
    if (predictions.dtype.kind in _NUMERIC) != (labels.dtype.kind in _NUMERIC):
        raise InvalidInput(
            "labels and predictions are of different types",
            found=f"the prediction {predictions[0]!s} ({predictions.dtype}) "
            f"and the label {labels[0]!s} ({labels.dtype})",
        )
