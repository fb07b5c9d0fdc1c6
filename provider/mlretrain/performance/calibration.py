"""What the column ``prediction`` of a champion's log means, and how often a probability in it comes true.

Learnt on the champion's holdout, which training has not seen, and kept beside the model; it is what makes an
estimate of performance without labels possible.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from mlretrain.intervals import block_span, draws, time_blocks
from mlretrain.reliability import equal_bins
from mlretrain.scoring import Array

if TYPE_CHECKING:
    from mlretrain.scoring import Predictions

LEAST_ROWS = 200
LEAST_OF_A_CLASS = 20
DRAWS = 100
"""Maps learnt from other draws of the holdout's rows: what is not known about the map."""

_DIGITS = 6

Served = Literal["probability", "position", "value"]
"""That of the positive class; the position of the likeliest of several classes; the answer itself."""

Class = bool | int | float | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A map from the served score to the share of positives, linear between its points and never falling.

    :param classes: of a classifier, sorted; the last of two is the positive one.
    :param rows: of the holdout.
    :param error: the expected calibration error of the scores themselves: the mean distance, over the rows,
        between a bin's mean score and its share of positives (Naeini et al., AAAI 2015).
    :param scores: the mean score of each bin.
    :param shares: the share of positives in it.
    :param drawn: ``shares`` as other draws of the holdout would have given them.
    :param shift: how far blocks of time are from the map, beyond chance: a standard deviation in logits.
    :param shift_s: the length of these blocks, in seconds.
    :param reason: why there is no map.
    """

    served: Served
    classes: tuple[Class, ...] = ()
    rows: int
    error: float | None = None
    scores: tuple[float, ...] = ()
    shares: tuple[float, ...] = ()
    drawn: tuple[tuple[float, ...], ...] = ()
    shift: float = 0.0
    shift_s: float | None = None
    reason: str | None = None

    def probability(self, scores: Array, shares: Sequence[float] | None = None) -> Array:
        """The probability that each of ``scores`` is a positive.

        Beyond the outermost points the map runs parallel to the scores, which a calibrated model's does.

        :param shares: one of ``drawn`` in place of the map's own.
        """
        import numpy as np

        points, values = np.asarray(self.scores), np.asarray(self.shares if shares is None else shares)
        beyond = scores - np.clip(scores, points[0], points[-1])
        return np.clip(np.interp(scores, points, values) + beyond, 0.0, 1.0)


def calibrate(
    served: Sequence[Any], predictions: Predictions, truth: Array, *, seconds: Array | None, seed: int
) -> Calibration:
    """What the holdout tells about a model.

    :param served: the log's column ``prediction`` for the holdout's rows.
    :param predictions: what the model says of them in full.
    :param seconds: each row's time since 1970, if it has one.
    """
    import numpy as np

    kind, classes = _meaning(served, predictions, truth)
    reason = _obstacle(kind, classes)
    if reason is None:
        scores = np.asarray(served, dtype=float)
        positive = np.asarray(truth == classes[1], dtype=float)
        reason = _shortage(scores, positive)
    if reason is not None:
        return Calibration(served=kind, classes=classes, rows=len(truth), reason=reason)
    bins = equal_bins(scores)
    sizes = np.bincount(bins)
    centres = np.bincount(bins, scores) / sizes
    shares = np.bincount(bins, positive) / sizes
    span = None if seconds is None else block_span(seconds)
    blocks = time_blocks(seconds, span) if span else None
    learnt = Calibration(
        served=kind,
        classes=classes,
        rows=len(truth),
        error=float(np.abs(centres - shares) @ sizes / len(truth)),
        scores=_rounded(centres),
        shares=_rounded(_rising(shares, sizes)),
        drawn=tuple(_drawn(bins, positive, blocks, seed)),
        shift_s=span,
    )
    return (
        learnt
        if blocks is None
        else replace(learnt, shift=_shift(learnt.probability(scores), positive, blocks))
    )


def _meaning(
    served: Sequence[Any], predictions: Predictions, truth: Array
) -> tuple[Served, tuple[Class, ...]]:
    """How a row of the log is to be read."""
    import numpy as np

    column = np.asarray(served)
    classes = predictions.classes
    if predictions.probabilities is not None:
        likeliest = predictions.probabilities.argmax(axis=1)
        positive = predictions.probabilities[:, -1]
        if len(classes) == 2 and column.dtype.kind == "f" and np.allclose(column, positive, equal_nan=True):
            return "probability", classes
        is_position = column.dtype.kind in "iu" and (column == likeliest).all()
        return ("position" if is_position and classes != tuple(range(len(classes))) else "value"), classes
    if column.dtype.kind == "f" and truth.dtype.kind in "fiub":
        whole = (column == np.floor(column)).all()
        if not whole and np.isin(truth, (0, 1)).all() and ((column >= 0) & (column <= 1)).all():
            return "probability", (0, 1)
    return "value", ()


def _obstacle(served: Served, classes: tuple[Class, ...]) -> str | None:
    if served == "probability":
        return None
    if len(classes) > 2:
        return f"{len(classes)} classes, and the log keeps the likeliest one without its probability"
    return "the model serves no probability; classifiers do with prediction_method: predict_proba"


def _shortage(scores: Array, positive: Array) -> str | None:
    import numpy as np

    if not np.isfinite(scores).all():
        return "the model gave no number for some rows of its holdout"
    rarer = int(min(positive.sum(), len(positive) - positive.sum()))
    if len(scores) >= LEAST_ROWS and rarer >= LEAST_OF_A_CLASS:
        return None
    return (
        f"the holdout has {len(scores):,} rows, {rarer:,} of the rarer class; "
        f"{LEAST_ROWS} and {LEAST_OF_A_CLASS} are needed to calibrate"
    )


def _drawn(bins: Array, positive: Array, blocks: Array | None, seed: int) -> Iterator[tuple[float, ...]]:
    import numpy as np

    for weights in draws(len(bins), blocks, seed, DRAWS):
        for weight in weights:
            sizes = np.bincount(bins, weight)
            hits = np.bincount(bins, weight * positive)
            yield _rounded(_rising(np.divide(hits, sizes, out=np.zeros_like(hits), where=sizes > 0), sizes))


def _shift(likely: Array, positive: Array, blocks: Array) -> float:
    """The standard deviation between blocks of how far, in logits, their positives are from ``likely``, less
    what chance explains (DerSimonian & Laird, Controlled Clinical Trials 7, 1986).
    """
    import numpy as np

    weights = np.bincount(blocks, likely * (1 - likely))
    excess = np.bincount(blocks, positive - likely)[weights > 0]
    weights = weights[weights > 0]
    total = weights.sum()
    spread = (excess**2 / weights).sum() - excess.sum() ** 2 / total - (len(weights) - 1)
    return round(float(np.sqrt(max(0.0, spread / (total - (weights**2).sum() / total)))), _DIGITS)


def _rising(shares: Array, sizes: Array) -> Array:
    """The closest series that never falls: neighbours in the wrong order are pooled (isotonic regression by
    pool-adjacent-violators). A bin without rows takes its lower neighbour's share, the first the next one's.
    """
    import numpy as np

    pools: list[tuple[float, float, int]] = []
    for share, size in zip(shares.tolist(), sizes.tolist(), strict=True):
        pool = (share * size, size, 1)
        while pools and (not pool[1] or not pools[-1][1] or _share(pools[-1]) >= _share(pool)):
            below = pools.pop()
            pool = (below[0] + pool[0], below[1] + pool[1], below[2] + pool[2])
        pools.append(pool)
    return np.repeat([_share(each) for each in pools], [each[2] for each in pools])


def _share(pool: tuple[float, float, int]) -> float:
    return pool[0] / pool[1] if pool[1] else 0.0


def _rounded(values: Array) -> tuple[float, ...]:
    return tuple(round(float(each), _DIGITS) for each in values)
