"""How much a model relies on each of its features: what ranks drifted columns, and weighs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mlretrain.metrics import higher_is_better
from mlretrain.scoring import Array, Predictions, score

if TYPE_CHECKING:
    import pandas as pd

ROWS = 2_000
SHUFFLES = 5
"""Of each feature; fewer where there are many, one from a hundred features on."""

_TOGETHER = 20_000
"""Rows asked of the model at once: a call of its own for each feature costs more than the rows do."""

Ask = Callable[["pd.DataFrame"], Predictions]


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance:
    """``values`` by feature: none negative, in sum 1, or all 0 where no feature matters.

    :param method: ``native``: the model's own; ``permutation``: how much worse it gets with the column
        shuffled.
    :param metric: what got worse, for permutation.
    """

    method: Literal["native", "permutation"]
    metric: str | None = None
    values: Mapping[str, float]


def native(model: Any, rows: pd.DataFrame) -> Importance | None:
    """What the model itself says of the columns of ``rows``: the ``feature_importances_`` of trees, or the
    size of the ``coef_`` of linear models in standard deviations of the column; ``None`` if it has neither,
    or not one value for each column.

    :param model: of any library with scikit-learn's attributes.
    """
    import numpy as np

    names = list(rows.columns)
    fitted = getattr(model, "feature_names_in_", None)
    if fitted is not None and list(fitted) != names:
        return None
    given = getattr(model, "feature_importances_", None)
    if given is None:
        coefficients = getattr(model, "coef_", None)
        if coefficients is None or any(kind.kind not in "biuf" for kind in rows.dtypes):
            return None
        given = np.abs(np.atleast_2d(np.asarray(coefficients, dtype=float))).mean(axis=0)
        if given.shape == (len(names),):
            given = given * rows.to_numpy(dtype=float, na_value=np.nan).std(axis=0)
    values = np.asarray(given, dtype=float)
    if values.shape != (len(names),) or not np.isfinite(values).all():
        return None
    return Importance(method="native", values=_shares(names, values))


def permutation(
    ask: Ask, rows: pd.DataFrame, truth: Array, features: Sequence[str], *, metric: str, seed: int
) -> Importance:
    """How much worse ``metric`` gets when one column's values change places among at most :data:`ROWS` rows.

    Breiman, "Random Forests" (2001), section 10. Columns that say the same share what they are worth, each
    being little missed while the other is there.

    :param ask: the model's predictions; raises what the model raises.
    """
    import numpy as np

    random = np.random.default_rng(seed)
    kept = np.sort(random.permutation(len(rows))[:ROWS])
    rows, truth = rows.iloc[kept].reset_index(drop=True), truth[kept]
    sign = 1.0 if higher_is_better(metric) else -1.0
    shuffles = max(1, min(SHUFFLES, 100 // max(len(features), 1)))
    tasks = [(name, random.permutation(len(rows))) for name in features for _ in range(shuffles)]
    lost = dict.fromkeys(features, 0.0)
    whole = sign * score([metric], truth, ask(rows))[metric]
    at_once = max(1, _TOGETHER // max(len(rows), 1))
    for first in range(0, len(tasks), at_once):
        batch = tasks[first : first + at_once]
        for (name, _), predictions in zip(batch, _asked(ask, rows, batch), strict=True):
            lost[name] += whole - sign * score([metric], truth, predictions)[metric]
    values = np.nan_to_num(np.asarray([lost[name] for name in features]) / shuffles)
    return Importance(method="permutation", metric=metric, values=_shares(features, values))


def _asked(ask: Ask, rows: pd.DataFrame, batch: Sequence[tuple[str, Array]]) -> list[Predictions]:
    """The predictions for each shuffled copy of ``rows``, asked for in one call."""
    import numpy as np
    import pandas as pd

    size = len(rows)
    copies = pd.concat([rows] * len(batch), ignore_index=True)
    for name in dict.fromkeys(name for name, _ in batch):
        order = np.arange(len(copies))
        for i, (shuffled, places) in enumerate(batch):
            if shuffled == name:
                order[i * size : (i + 1) * size] = i * size + places
        copies[name] = copies[name].take(order).array
    predictions = ask(copies)
    marks = np.repeat(np.arange(len(batch)), size)
    return [predictions.of(marks == i) for i in range(len(batch))]


def _shares(names: Sequence[str], values: Array) -> dict[str, float]:
    import numpy as np

    positive = np.maximum(values, 0.0)
    total = positive.sum()
    shares = positive / total if total > 0 else positive
    return {name: round(float(each), 6) for name, each in zip(names, shares, strict=True)}
