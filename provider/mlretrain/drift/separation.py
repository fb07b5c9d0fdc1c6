"""How well a classifier tells two sets of rows apart: the AUC on rows that it has not seen.

Gradient-boosted trees (scikit-learn's HistGradientBoosting) see what no single column shows. They are asked
about blocks of time that they were not fitted on: rows come in clusters (days, shops, sessions), and who has
seen a cluster knows it again without knowing anything about the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from mlretrain.drift.encoding import FEWEST, FOLDS, Rows, encode
from mlretrain.errors import MissingExtra

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from mlretrain.drift.encoding import Floats

TOLD, _WORTH = 5, 0.1
"""Columns that are told at most, and the least share of the first one's effect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Separation:
    """What came of it.

    :param auc: chance that a row of the second set is ranked above one of the first; ``low`` and ``high``
        bound it.
    :param columns: those whose values tell most, the most telling first.
    """

    auc: float
    low: float
    high: float
    columns: tuple[str, ...]


def separate(
    first: pa.Table, second: pa.Table, *, confidence: float = 0.95, seed: int = 0, explain: bool = True
) -> Separation | str:
    """Tell ``second`` from ``first``, or say why that cannot be tried.

    The AUC is the mean over the folds, its bounds are those of DeLong, DeLong & Clarke-Pearson (Biometrics
    44, 1988), summed over folds as LeDell, Petersen & van der Laan do (Electron. J. Statist. 9, 2015).

    :param explain: find the columns that tell most, by permuting each among the rows not seen (Breiman,
        Machine Learning 45, 2001).
    """
    import numpy as np

    few = min(first.num_rows, second.num_rows)
    if few < FEWEST:
        return f"{few} row{'' if few == 1 else 's'}, at least {FEWEST} are needed"
    rows = encode(first, second)
    if isinstance(rows, str):
        return rows
    with _one_thread():
        judges = [_Judge.fitted(rows, fold, seed) for fold in range(FOLDS)]
        aucs, variances = zip(*(each.auc() for each in judges), strict=True)
        auc = float(np.mean(aucs))
        reach = NormalDist().inv_cdf((1 + confidence) / 2) * float(np.sqrt(np.sum(variances))) / FOLDS
        tells = explain and auc - reach > 0.5
        return Separation(
            auc=round(auc, 6),
            low=round(max(0.0, auc - reach), 6),
            high=round(min(1.0, auc + reach), 6),
            columns=_telling(rows.names, judges, np.random.default_rng(seed)) if tells else (),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Judge:
    """A classifier and the rows that it has not seen, with the side that each is of."""

    model: Any
    values: Floats
    truth: NDArray[np.bool_]

    @classmethod
    def fitted(cls, rows: Rows, fold: int, seed: int) -> _Judge:
        """One that was fitted on all folds but this one."""
        from sklearn.ensemble import HistGradientBoostingClassifier

        unseen = rows.folds == fold
        model = HistGradientBoostingClassifier(
            max_iter=50,
            max_leaf_nodes=15,
            categorical_features=rows.categorical,
            early_stopping=False,
            random_state=seed,
        )
        model.fit(rows.values[~unseen], rows.second[~unseen])
        return cls(model=model, values=rows.values[unseen], truth=rows.second[unseen] == 1)

    def auc(self) -> tuple[float, float]:
        """The AUC on these rows, and its variance."""
        return delong(self.model.decision_function(self.values), self.truth)

    def fall(self, column: int, random: np.random.Generator) -> float:
        """By how much the AUC falls when the values of a column are shuffled."""
        values = self.values.copy()
        random.shuffle(values[:, column])
        return self.auc()[0] - delong(self.model.decision_function(values), self.truth)[0]


def _telling(names: list[str], judges: list[_Judge], random: np.random.Generator) -> tuple[str, ...]:
    """The columns without whose values the AUC falls most, those that are worth telling."""
    falls = {name: sum(judge.fall(i, random) for judge in judges) for i, name in enumerate(names)}
    ranked = sorted(falls, key=lambda name: (-round(falls[name], 6), name))[:TOLD]
    return tuple(name for name in ranked if falls[name] > max(0.0, _WORTH * falls[ranked[0]]))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums then have one order, and on a busy machine no thread waits for another."""
    try:
        import sklearn  # noqa: F401
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise MissingExtra.of("scikit-learn", "all") from error
    with threadpool_limits(limits=1, user_api="openmp"):
        yield


def delong(scores: Floats, truth: NDArray[np.bool_]) -> tuple[float, float]:
    """AUC and its variance by DeLong, from midranks (Sun & Xu, IEEE Signal Process. Lett. 21, 2014)."""
    import numpy as np

    ours, theirs = scores[truth], scores[~truth]
    m, n = len(ours), len(theirs)
    ranks = _midranks(np.concatenate([ours, theirs]))
    above = (ranks[:m] - _midranks(ours)) / n
    below = 1 - (ranks[m:] - _midranks(theirs)) / m
    return float(above.mean()), float(above.var(ddof=1) / m + below.var(ddof=1) / n)


def _midranks(values: Floats) -> Floats:
    import numpy as np

    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[place]
