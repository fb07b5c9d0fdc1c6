"""How other libraries judge a column, as they define it, with numpy and SciPy.

Each rule says of (reference, current, windows of the reference, categories or 0) whether the column drifted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Array = Any
Rule = Callable[[Array, Array, int, int], bool]


def p_value(reference: Array, current: Array, windows: int, categories: int) -> bool:
    """Kolmogorov–Smirnov or chi-squared at 5 %: Evidently up to 1,000 rows (KS: whylogs at any number)."""
    import numpy as np
    from scipy import stats

    if not categories:
        return bool(stats.ks_2samp(reference, current, method="asymp").pvalue < 0.05)
    expected, seen = _counts(reference, current, categories)
    known = expected > 0
    if seen[~known].any():
        return True
    scaled = expected[known] * (seen.sum() / expected.sum())
    statistic = np.sum((seen[known] - scaled) ** 2 / scaled)
    return bool(stats.chi2.sf(statistic, known.sum() - 1) < 0.05)


def distance(reference: Array, current: Array, windows: int, categories: int) -> bool:
    """Wasserstein ≥ 0.1 standard deviations, or Jensen–Shannon ≥ 0.1: Evidently beyond 1,000 rows."""
    from scipy import stats
    from scipy.spatial.distance import jensenshannon

    if categories:
        p, q = _shares(reference, current, categories)
        return bool(jensenshannon(p, q) >= 0.1)
    scale = max(float(reference.std()), 0.001)
    return bool(stats.wasserstein_distance(reference, current) / scale >= 0.1)


def jensen_shannon(reference: Array, current: Array, windows: int, categories: int) -> bool:
    """Jensen–Shannon to base 2 > 0.1, numbers in 30 equal bins."""
    import numpy as np
    from scipy.spatial.distance import jensenshannon

    if categories:
        p, q = _shares(reference, current, categories)
    else:
        ends = (min(reference.min(), current.min()), max(reference.max(), current.max()))
        p, q = (np.histogram(each, 30, ends)[0] for each in (reference, current))
    return bool(jensenshannon(p, q, 2) > 0.1)


def learnt(reference: Array, current: Array, windows: int, categories: int) -> bool:
    """Jensen–Shannon beyond mean + 3 deviations of the reference's own windows: NannyML's default."""
    import numpy as np
    from scipy.spatial.distance import jensenshannon

    edges: Array = np.arange(categories + 1) if categories else _doane(reference)
    whole = _binned(reference, edges)
    seen = [jensenshannon(whole, _binned(each, edges), 2) for each in np.split(reference, windows)]
    return bool(jensenshannon(whole, _binned(current, edges), 2) > np.mean(seen) + 3 * np.std(seen))


def psi(reference: Array, current: Array, windows: int, categories: int) -> bool:
    """Population stability index > 0.1, numbers in ten bins of equal weight; an empty bin counts 0.0001."""
    import numpy as np

    if categories:
        p, q = _shares(reference, current, categories)
    else:
        edges = np.quantile(reference, np.linspace(0.1, 0.9, 9))
        p, q = (
            np.bincount(np.searchsorted(edges, each), minlength=10) / len(each)
            for each in (reference, current)
        )
    p, q = np.maximum(p, 1e-4), np.maximum(q, 1e-4)
    return bool(np.sum((p - q) * np.log(p / q)) > 0.1)


def _counts(reference: Array, current: Array, categories: int) -> tuple[Array, Array]:
    import numpy as np

    return np.bincount(reference, minlength=categories), np.bincount(current, minlength=categories)


def _shares(reference: Array, current: Array, categories: int) -> tuple[Array, Array]:
    p, q = _counts(reference, current, categories)
    return p / p.sum(), q / q.sum()


def _doane(reference: Array) -> Array:
    """As many bins as Doane wants, but no more than a machine can hold for a Cauchy distribution."""
    import numpy as np

    wanted = len(np.histogram_bin_edges(reference[:100_000], "doane")) - 1
    return np.linspace(reference.min(), reference.max(), min(wanted, 10_000) + 1)


def _binned(values: Array, edges: Array) -> Array:
    """Shares by bin, and last of what is outside."""
    import numpy as np

    inside = np.histogram(values, edges)[0] / len(values)
    return np.append(inside, max(0.0, 1 - inside.sum()))


RULES: dict[str, Rule] = {
    "p < 0.05: KS, chi-squared (Evidently ≤ 1,000 rows)": p_value,
    "Wasserstein/sd > 0.1, JS > 0.1 (Evidently > 1,000 rows)": distance,
    "JS > 0.1, 30 bins": jensen_shannon,
    "JS > mean + 3 sd of the reference's windows (NannyML)": learnt,
    "PSI > 0.1, 10 bins": psi,
}
