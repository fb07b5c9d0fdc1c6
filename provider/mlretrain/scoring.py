"""What a model is worth on a holdout: metrics, and the rows of each slice.

All metrics but the area under the ROC curve are sums over rows followed by a small formula, so one pass of
numpy gives a score, and a bootstrap is a product of resampling weights with the same rows. The definitions
are scikit-learn's: binary precision, recall and F1 are those of the positive class (the last of the sorted
classes), with more classes they are macro averages, as is the one-versus-rest area.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlretrain.errors import ConfigError, InvalidInput
from mlretrain.reliability import calibration_error, excess

Array = Any
"""A numpy array; numpy is loaded by the caller's data, never by importing this module."""

Scorer = Callable[[Array], Array]
"""Scores for weights of the rows: resamples x n in, one score per resample out."""

_CLIP = 1e-15
_MAPE_FLOOR = 2.220446049250313e-16


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """What a model says about rows.

    :param values: the predicted label or number of each row.
    :param probabilities: rows x classes; ``None`` for models that give none.
    :param classes: the classes of the columns of ``probabilities``, sorted.
    """

    values: Array
    probabilities: Array | None = None
    classes: tuple[Any, ...] = ()

    def usable(self) -> bool:
        """Whether every number is finite."""
        import numpy as np

        given = [each for each in (self.values, self.probabilities) if each is not None]
        return all(np.isfinite(each).all() for each in given if each.dtype.kind == "f")

    def of(self, rows: Array) -> Predictions:
        """Those of the rows that the boolean array ``rows`` marks."""
        chosen = None if self.probabilities is None else self.probabilities[rows]
        return Predictions(values=self.values[rows], probabilities=chosen, classes=self.classes)


@dataclass(frozen=True, slots=True)
class _Rowwise:
    """A metric that is ``finish(weights @ rows)``: ``rows`` is n x k, ``finish`` takes ... x k."""

    rows: Callable[[_Task], Array]
    finish: Callable[[Array], Array]

    def scorer(self, task: _Task) -> Scorer:
        """The metric as a function of weights."""
        rows = self.rows(task)
        return lambda weights: self.finish(weights @ rows)


@dataclass(frozen=True, slots=True)
class _Area:
    """The area under the ROC curve; with more than two classes the mean of one against the rest."""

    def scorer(self, task: _Task) -> Scorer:
        """The metric as a function of weights."""
        truth, probabilities = task.one_hot(), task.probabilities()
        columns = [1] if truth.shape[1] == 2 else range(truth.shape[1])
        areas = [_area(truth[:, each], probabilities[:, each]) for each in columns]
        return lambda weights: sum(area(weights) for area in areas) / max(len(areas), 1)


@dataclass(frozen=True, slots=True)
class _Task:
    """The truth and one model's predictions on the same rows."""

    truth: Array
    predictions: Predictions

    def classes(self) -> tuple[Any, ...]:
        """All classes in question, sorted; ``(0, 1)`` or ``(False, True)`` when fewer are seen."""
        if self.predictions.classes:
            return self.predictions.classes
        import numpy as np

        if _is_probability(self.truth, self.predictions.values):
            return (0, 1)
        return tuple(np.unique(np.concatenate([self.truth, self.predictions.values])).tolist())

    def one_hot(self) -> Array:
        import numpy as np

        return np.stack([self.truth == each for each in self.classes()], axis=1).astype(float)

    def probabilities(self) -> Array:
        """Rows x classes: the model's own, else its numeric prediction read as that of the positive class."""
        import numpy as np

        if self.predictions.probabilities is not None:
            return self.predictions.probabilities
        if len(self.classes()) == 2 and self.predictions.values.dtype.kind in "fiub":
            positive = self.predictions.values.astype(float)
            return np.stack([1 - positive, positive], axis=1)
        return np.stack([self.predictions.values == each for each in self.classes()], axis=1).astype(float)

    def labels(self) -> Array:
        """The predicted class of each row; a probability of one half or more is the positive class."""
        values = self.predictions.values
        return (values >= 0.5).astype(int) if _is_probability(self.truth, values) else values

    def errors(self) -> Array:
        return _numbers(self.truth) - _numbers(self.predictions.values)


def _is_probability(truth: Array, values: Array) -> bool:
    """Whether ``values`` are numbers within [0, 1] for a truth of zeros and ones."""
    if values.dtype.kind != "f" or truth.dtype.kind not in "fiub":
        return False
    import numpy as np

    return bool(np.isin(truth, (0, 1)).all() and ((values >= 0) & (values <= 1)).all())


def _numbers(values: Array) -> Array:
    try:
        return values.astype(float)
    except (TypeError, ValueError):
        raise InvalidInput(
            "a regression metric needs numbers",
            found=repr(values[0]),
            remedy="Use classification metrics (accuracy, f1, roc_auc, …) for labels",
        ) from None


def _column(values: Array) -> Array:
    return values.astype(float).reshape(-1, 1)


def _mean(rows: Callable[[_Task], Array], transform: Callable[[Array], Array] | None = None) -> _Rowwise:
    """The mean of one value per row, possibly transformed."""

    def with_count(task: _Task) -> Array:
        import numpy as np

        value = _column(rows(task))
        return np.hstack([value, np.ones_like(value)])

    def finish(sums: Array) -> Array:
        mean = sums[..., 0] / sums[..., 1]
        return transform(mean) if transform else mean

    return _Rowwise(with_count, finish)


def _log_loss(task: _Task) -> Array:
    import numpy as np

    own = (task.probabilities() * task.one_hot()).sum(axis=1)
    return -np.log(np.clip(own, _CLIP, 1 - _CLIP))


def _brier(task: _Task) -> Array:
    squares = (task.probabilities() - task.one_hot()) ** 2
    return squares[:, 1] if squares.shape[1] == 2 else squares.sum(axis=1)


def _excess(task: _Task) -> Array:
    """Of two classes the positive one's probability is judged, of more the likeliest one's."""
    import numpy as np

    truth, probabilities = task.one_hot(), task.probabilities()
    if truth.shape[1] == 2:
        return excess(probabilities[:, 1], truth[:, 1])
    likeliest = probabilities.argmax(axis=1)
    rows = np.arange(len(truth))
    return excess(probabilities[rows, likeliest], truth[rows, likeliest])


def _relative_error(task: _Task) -> Array:
    import numpy as np

    return np.abs(task.errors()) / np.maximum(np.abs(_numbers(task.truth)), _MAPE_FLOOR)


def _squares(task: _Task) -> Array:
    import numpy as np

    truth = _numbers(task.truth)
    return np.stack([task.errors() ** 2, truth**2, truth, np.ones_like(truth)], axis=1)


def _r2(sums: Array) -> Array:
    residual, squares, total, n = (sums[..., each] for each in range(4))
    return 1 - residual / (squares - total**2 / n)


def _confusion(task: _Task) -> Array:
    """True positives, predicted and actual positives per class: columns ``tp…, predicted…, actual…``."""
    import numpy as np

    classes, labels = task.classes(), task.labels()
    judged = classes[1:] if len(classes) == 2 else classes
    actual = np.stack([task.truth == each for each in judged], axis=1)
    predicted = np.stack([labels == each for each in judged], axis=1)
    return np.hstack([actual & predicted, predicted, actual]).astype(float)


def _ratio(numerator: Callable[[Array, Array, Array], Array]) -> Callable[[Array], Array]:
    """The macro average of a ratio of counts; a class without any case counts as zero, as in scikit-learn."""

    def finish(sums: Array) -> Array:
        import numpy as np

        hits, predicted, actual = np.split(sums, 3, axis=-1)
        below = numerator(hits, predicted, actual)
        return np.divide(hits, below, out=np.zeros_like(hits), where=below > 0).mean(axis=-1)

    return finish


def _root(mean: Array) -> Array:
    import numpy as np

    return np.sqrt(mean)


def _absolute(task: _Task) -> Array:
    return abs(task.errors())


PROBABILITY_METRICS = frozenset({"roc_auc", "log_loss", "brier", "ece"})

METRICS: Mapping[str, _Rowwise | _Area] = {
    "roc_auc": _Area(),
    "log_loss": _mean(_log_loss),
    "brier": _mean(_brier),
    "ece": _Rowwise(_excess, calibration_error),
    "accuracy": _mean(lambda task: task.labels() == task.truth),
    "precision": _Rowwise(_confusion, _ratio(lambda hits, predicted, actual: predicted)),
    "recall": _Rowwise(_confusion, _ratio(lambda hits, predicted, actual: actual)),
    "f1": _Rowwise(_confusion, _ratio(lambda hits, predicted, actual: (predicted + actual) / 2)),
    "rmse": _mean(lambda task: task.errors() ** 2, _root),
    "mae": _mean(_absolute),
    "mape": _mean(_relative_error),
    "r2": _Rowwise(_squares, _r2),
}


def score(metrics: Iterable[str], truth: Array, predictions: Predictions) -> dict[str, float]:
    """Each metric by name; NaN where it is not defined (one class only, no rows, a NaN predicted).

    :raises ConfigError: a metric is unknown.
    :raises InvalidInput: a regression metric is asked of labels.
    """
    import numpy as np

    equal = np.ones((1, len(truth)))
    with np.errstate(divide="ignore", invalid="ignore"):
        return {name: float(scorer(name, truth, predictions)(equal)[0]) for name in metrics}


def slice_rows(values: Sequence[Any], top: int) -> dict[str, Array]:
    """The row mask of each value by its text, the most frequent first; all beyond ``top`` are ``"other"``.

    Missing values are the slice ``"null"``.
    """
    import pandas as pd

    texts = pd.Series(values).astype(object).map(str, na_action="ignore").fillna("null")
    counts = texts.value_counts()
    order = sorted(counts.index, key=lambda text: (-counts[text], text))
    kept = order if len(order) <= top else order[: top - 1]
    masks = {text: (texts == text).to_numpy() for text in kept}
    if len(kept) < len(order):
        masks["other"] = ~texts.isin(kept).to_numpy() | masks.get("other", False)
    return masks


def scorer(metric: str, truth: Array, predictions: Predictions) -> Scorer:
    """The metric as a function of the rows' weights; NaN as in :func:`score`."""
    import numpy as np

    if metric not in METRICS:
        raise ConfigError(f"unknown metric {metric!r}", allowed=", ".join(METRICS))
    if not len(truth) or not predictions.usable():
        return lambda weights: np.full(len(weights), np.nan)
    return METRICS[metric].scorer(_Task(np.asarray(truth), predictions))


def ranking(truth: Array, predictions: Predictions) -> tuple[Array, Array] | None:
    """Which rows are positive, and the scores that rank them; ``None`` unless there are two classes."""
    import numpy as np

    task = _Task(np.asarray(truth), predictions)
    if not len(truth) or not predictions.usable() or len(task.classes()) != 2:
        return None
    return task.truth == task.classes()[1], task.probabilities()[:, 1]


def _area(positive: Array, scores: Array) -> Scorer:
    """The share of (positive, negative) pairs in the right order, ties half."""
    import numpy as np

    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) > 0])
    hits = positive[order]
    tied = len(starts) < len(order)

    def grouped(weights: Array) -> Array:
        return np.add.reduceat(weights, starts, axis=1) if tied else weights

    def area(weights: Array) -> Array:
        ordered = weights[:, order]
        above = grouped(ordered * hits)
        below = grouped(ordered * (1 - hits))
        pairs = (above * (np.cumsum(below, axis=1) - below / 2)).sum(axis=1)
        return pairs / (above.sum(axis=1) * below.sum(axis=1))

    return area
