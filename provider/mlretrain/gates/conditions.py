"""The conditions of a gate on one metric, each a check with how much room it leaves."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from mlretrain.gates.evaluation import Evaluation
from mlretrain.gates.gate import Gate
from mlretrain.verdict import Check, number, usable


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One metric of both models on the same rows.

    :param where: which rows, such as ``carrier=AA``; ``None``: the whole holdout.
    :param first: there is no champion at all.
    """

    metric: str
    where: str | None = None
    candidate: float | None
    champion: float | None
    first: bool
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A check, and how much worse the candidate could be before it fails; ``-inf`` if that is not known."""

    check: Check
    room: float


def whole(gate: Gate, evaluation: Evaluation) -> Pair:
    """The gate's metric on the whole holdout."""
    metric, champion = str(gate.metric), evaluation.champion
    return Pair(
        metric=metric,
        candidate=evaluation.candidate.metrics.get(metric),
        champion=champion.metrics.get(metric) if champion else None,
        first=evaluation.first,
    )


def bounds(gate: Gate, pair: Pair) -> Iterator[Finding]:
    """``min`` and ``max``."""
    for bound, sign, symbol in ((gate.min, 1.0, "≥"), (gate.max, -1.0, "≤")):
        if bound is not None:
            yield _finding(
                pair,
                pair.metric,
                observed=number(pair.candidate),
                required=f"{symbol} {number(bound)}",
                room=math.nan if pair.candidate is None else sign * (pair.candidate - bound),
            )


def drop(gate: Gate, pair: Pair, sign: float) -> Iterator[Finding]:
    """``max_drop``: how much worse than the champion. ``sign`` is -1 where less is better."""
    if gate.max_drop is None:
        return
    what, required = f"drop of {pair.metric}", f"≤ {number(gate.max_drop)}"
    if pair.first:
        yield _unrivalled(pair, what, required, sign)
        return
    ours, theirs = pair.candidate, pair.champion
    lost = math.nan if ours is None or theirs is None else sign * (theirs - ours)
    yield _finding(pair, what, observed=_compared(lost, pair), required=required, room=gate.max_drop - lost)


def ratio(gate: Gate, pair: Pair) -> Iterator[Finding]:
    """``max_ratio``: how many times the champion's value, of which less is better."""
    if gate.max_ratio is None:
        return
    what, required = f"{pair.metric} over the champion's", f"≤ {number(gate.max_ratio)}"
    if pair.first:
        yield _unrivalled(pair, what, required, -1.0)
        return
    ours, theirs = pair.candidate, pair.champion
    times = ours / theirs if ours is not None and theirs else math.nan
    yield _finding(
        pair, what, observed=_compared(times, pair), required=required, room=gate.max_ratio - times
    )


def improvement(gate: Gate, evaluation: Evaluation, sign: float) -> Iterator[Finding]:
    """``versus`` with ``min_improvement``, by the estimate or by the interval's worse end."""
    if not gate.improves:
        return
    pair, least = whole(gate, evaluation), gate.min_improvement or 0.0
    what, required = f"improvement of {pair.metric}", f"≥ {number(least)}"
    if gate.confidence is not None:
        required += f" with confidence {number(gate.confidence)}"
        required += " (DeLong)" if gate.method == "delong" else ""
    if pair.first:
        yield _unrivalled(pair, what, required, sign)
        return
    ours, theirs = pair.candidate, pair.champion
    gained = math.nan if ours is None or theirs is None else sign * (ours - theirs)
    observed = f"{number(ours)} against {number(theirs)}"
    if gate.confidence is not None and usable(gained):
        gained = _surely(gate, evaluation, sign)
        observed += f", at least {number(gained)}" if usable(gained) else ", without such an interval"
    yield _finding(pair, what, observed=observed, required=required, room=gained - least)


def _surely(gate: Gate, evaluation: Evaluation, sign: float) -> float:
    """The worse end of the improvement's interval; NaN if there is none of the confidence asked for."""
    kept = evaluation.delong if gate.method == "delong" else evaluation.differences
    interval = kept.get(str(gate.metric))
    if interval is None or not interval.confidence >= (gate.confidence or 1.0) - 1e-9:
        return math.nan
    return interval.low if sign > 0 else -interval.high


def _compared(value: float, pair: Pair) -> str:
    found = number(value if usable(value) else None)
    return f"{found} ({number(pair.candidate)} against {number(pair.champion)})"


def _unrivalled(pair: Pair, what: str, required: str, sign: float) -> Finding:
    """A comparison without any champion holds if there is something to compare at all."""
    value = pair.candidate
    room = sign * value if value is not None else math.nan
    note = "; ".join(each for each in (pair.note, "no champion yet") if each)
    found = _finding(replace(pair, note=note), what, observed=number(value), required=required, room=room)
    return replace(found, check=replace(found.check, passed=usable(value)))


def _finding(pair: Pair, what: str, *, observed: str, required: str, room: float) -> Finding:
    known = usable(room) and usable(pair.candidate)
    check = Check(
        name=f"{what} in {pair.where}" if pair.where else what,
        passed=known and room >= 0,
        observed=observed,
        required=required,
        note=pair.note,
        one_of=f"{what} {required}" if pair.where else None,
    )
    return Finding(check=check, room=room if known else -math.inf)
