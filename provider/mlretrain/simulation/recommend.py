"""Which setting to switch on, and why, in a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlretrain.simulation.outcome import Outcome, difference
from mlretrain.verdict import number

WORTHLESS = 0.005
"""A difference of quality below this share of the best is not worth a retrain."""
_SURE = 1.0
"""Standard errors within which the simpler of two is taken (Breiman et al., CART, 1984, section 3.4.3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A setting with its outcome; ``is_fixed`` if it looks at no data: never, always, or by the calendar."""

    name: str
    outcome: Outcome
    is_fixed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """The setting to take; ``None`` if nothing speaks for one."""

    setting: str | None
    reason: str


def recommend(candidates: Sequence[Candidate], *, metric: str, higher_is_better: bool) -> Recommendation:
    """The setting with the fewest retrains whose quality cannot be told from the best, or is nearly as good.

    Among equals one that looks at the data goes first: it will also see what this past does not hold.
    """
    known = [each for each in candidates if each.outcome.quality is not None]
    if not known:
        return _without_quality(candidates)
    sign = 1 if higher_is_better else -1
    best = max(known, key=lambda each: (sign * (each.outcome.quality or 0.0), -each.outcome.retrains))
    nearly = [each for each in known if _as_good(each, best, higher_is_better)]
    chosen = min(
        nearly,
        key=lambda each: (each.outcome.retrains, each.is_fixed, -sign * (each.outcome.quality or 0.0)),
    )
    reason = f"{_retrains(chosen)} keep {metric} at {number(chosen.outcome.quality)}"
    if chosen is best:
        reason += ", the best of all"
    else:
        lost = abs((best.outcome.quality or 0.0) - (chosen.outcome.quality or 0.0))
        reason += f", within {lost:.2g} of the best ({best.name}, {_retrains(best)})"
    reason += _next(chosen, known, sign, metric)
    return Recommendation(setting=chosen.name, reason=f"{chosen.name}: {reason}.")


def _as_good(one: Candidate, best: Candidate, higher_is_better: bool) -> bool:
    if one is best:
        return True
    lost = difference(best.outcome, one.outcome, higher_is_better=higher_is_better)
    return lost.value <= max(_SURE * lost.error, WORTHLESS * abs(best.outcome.quality or 0.0))


def _next(chosen: Candidate, known: Sequence[Candidate], sign: int, metric: str) -> str:
    """What the next cheaper setting would lose, or what the next dearer one would add."""
    fewer = [each for each in known if each.outcome.retrains < chosen.outcome.retrains]
    more = [each for each in known if each.outcome.retrains > chosen.outcome.retrains and not each.is_fixed]
    gain = sign * (chosen.outcome.quality or 0.0)
    if fewer:
        other = max(fewer, key=lambda each: (each.outcome.retrains, sign * (each.outcome.quality or 0.0)))
        lost = gain - sign * (other.outcome.quality or 0.0)
        return f"; {other.name} saves {_count(chosen, other)} and loses {lost:.2g}"
    if more:
        other = min(more, key=lambda each: (each.outcome.retrains, -sign * (each.outcome.quality or 0.0)))
        added = sign * (other.outcome.quality or 0.0) - gain
        return f"; {other.name} adds {_count(other, chosen)} for {added:+.2g}"
    return ""


def _without_quality(candidates: Sequence[Candidate]) -> Recommendation:
    first = next((each for each in candidates if not each.is_fixed), candidates[0])
    drifted = f"drift in {first.outcome.drifted} of {first.outcome.windows} windows"
    remedy = "What retrains are worth is known only with --train."
    return Recommendation(setting=None, reason=f"{first.name}: {_retrains(first)}, {drifted}. {remedy}")


def _retrains(candidate: Candidate) -> str:
    count = candidate.outcome.retrains
    return f"{count} retrain{'' if count == 1 else 's'}"


def _count(more: Candidate, fewer: Candidate) -> str:
    count = more.outcome.retrains - fewer.outcome.retrains
    return f"{count} retrain{'' if count == 1 else 's'}"
