"""How far two profiles of a column are apart: effect sizes, each finite, at least 0, and 0 on equal profiles.

All but the :data:`UNBOUNDED` are at most 1. They work in the bins of the reference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Literal

from mlretrain.drift.bins import Sides
from mlretrain.drift.profile import ColumnProfile, Kind

Method = Literal[
    "ks",
    "wasserstein",
    "psi",
    "jensen_shannon",
    "total_variation",
    "chi_squared",
    "missing_rate",
    "new_category_share",
    "projection",
    "centroid",
]

_EVERY: tuple[Method, ...] = ("psi", "jensen_shannon", "total_variation", "chi_squared", "missing_rate")
_BINNED: tuple[Method, ...] = ("ks", "wasserstein", *_EVERY)
_LISTED: tuple[Method, ...] = (*_EVERY, "new_category_share")
METHODS: Mapping[Kind, tuple[Method, ...]] = MappingProxyType(
    {
        "numeric": _BINNED,
        "datetime": _BINNED,
        "text": _BINNED,
        "categorical": _LISTED,
        "boolean": _LISTED,
        "embedding": ("projection", "centroid", "missing_rate"),
    }
)
"""The methods that mean something for each kind of column."""

UNBOUNDED: tuple[Method, ...] = ("wasserstein", "psi")

PSEUDO_COUNT = 0.5
"""Jeffreys' prior: an empty bin counts as half a row, in both profiles, so PSI has no infinities to floor."""
_CLIP = 5
"""Standard deviations beyond which Wasserstein counts no further."""


def measure(method: Method, reference: ColumnProfile, current: ColumnProfile) -> float:
    """The effect by one of :data:`METHODS`; 0 if either column has no values to compare."""
    return measure_all((method,), reference, current)[method]


def measure_all(
    methods: Sequence[Method], reference: ColumnProfile, current: ColumnProfile
) -> dict[Method, float]:
    """The effect by each of ``methods``, which costs little more than by one."""
    sides = Sides(reference, current)
    comparable = bool(reference.valued and current.valued)
    return {
        method: _FUNCTIONS[method](sides) if comparable or method == "missing_rate" else 0.0
        for method in methods
    }


def ks(sides: Sides) -> float:
    """Kolmogorov–Smirnov: the largest difference of the cumulative shares at the cells' edges."""
    return min(1.0, max(abs(gap) for gap in sides.fine.gaps()))


def wasserstein(sides: Sides) -> float:
    """Wasserstein-1 in standard deviations of the reference: how far a row has moved on average.

    Rows beyond five standard deviations from the reference's mean count as five, so that a few outliers do
    not decide. A constant reference is measured by the magnitude of its value.
    """
    mean = sides.reference.mean or 0.0
    scale = sides.reference.sd or abs(mean) or 1.0
    pair = sides.fine
    gaps = [0.0, *pair.gaps()]
    gaps[-1] = 0.0
    points = [min(max((edge - mean) / scale, -_CLIP), _CLIP) for edge in pair.edges]
    return math.fsum(
        (right - left) * _area(d0, d1)
        for (left, right), (d0, d1) in zip(pairwise(points), pairwise(gaps), strict=True)
    )


def _area(d0: float, d1: float) -> float:
    """The mean of |d| along a line from d0 to d1."""
    if d0 * d1 >= 0:
        return (abs(d0) + abs(d1)) / 2
    return (d0 * d0 + d1 * d1) / (2 * (abs(d0) + abs(d1)))


def psi(sides: Sides) -> float:
    """Population stability index, smoothed by half a row per bin."""
    pairs = sides.coarse.shares(PSEUDO_COUNT)
    return math.fsum((a - b) * math.log(a / b) for a, b in pairs)


def jensen_shannon(sides: Sides) -> float:
    """Jensen–Shannon distance: the square root of the divergence to base 2."""
    pairs = sides.coarse.shares()
    terms = (x * math.log2(2 * x / (a + b)) for a, b in pairs for x in (a, b) if x > 0)
    return math.sqrt(min(1.0, max(0.0, math.fsum(terms) / 2)))


def total_variation(sides: Sides) -> float:
    """The share of rows that would have to change their bin or category."""
    return min(1.0, math.fsum(abs(a - b) for a, b in sides.coarse.shares()) / 2)


def chi_squared(sides: Sides) -> float:
    """Chi-squared as an effect, free of the number of rows: ½ Σ (p−q)²/(p+q) (Le Cam)."""
    pairs = sides.coarse.shares()
    return min(1.0, math.fsum((a - b) ** 2 / (a + b) for a, b in pairs if a + b > 0) / 2)


def missing_rate(sides: Sides) -> float:
    """By how much the share of rows without a usable value has changed."""
    return abs(sides.reference.missing_rate - sides.current.missing_rate)


def new_category_share(sides: Sides) -> float:
    """By how much the share of values outside the reference's listed categories has grown."""
    p, q = sides.fine.shares()[-1]
    return max(0.0, q - p)


def projection(sides: Sides) -> float:
    """The largest Kolmogorov–Smirnov distance among an embedding's norm and random projections.

    Vectors of different dimensions have nothing in common.
    """
    if sides.reference.dimension != sides.current.dimension:
        return 1.0
    parts = zip(sides.reference.parts, sides.current.parts, strict=True)
    return max((ks(Sides(p, q)) for p, q in parts if p.valued and q.valued), default=0.0)


def centroid(sides: Sides) -> float:
    """How far the mean vector has moved, as a share of the reference's mean norm; at most 1."""
    reference, current = sides.reference, sides.current
    if reference.dimension != current.dimension:
        return 1.0
    moved = math.dist(reference.centroid, current.centroid)
    return min(1.0, moved / (reference.parts[0].mean or 1.0)) if moved else 0.0


_FUNCTIONS: Mapping[Method, Callable[[Sides], float]] = MappingProxyType(
    {
        "ks": ks,
        "wasserstein": wasserstein,
        "psi": psi,
        "jensen_shannon": jensen_shannon,
        "total_variation": total_variation,
        "chi_squared": chi_squared,
        "missing_rate": missing_rate,
        "new_category_share": new_category_share,
        "projection": projection,
        "centroid": centroid,
    }
)
