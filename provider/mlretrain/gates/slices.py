"""Gates on parts of the holdout: every slice by itself, and the gap between groups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from mlretrain.gates import conditions
from mlretrain.gates.conditions import Pair
from mlretrain.gates.evaluation import Evaluation, SliceScores
from mlretrain.gates.gate import Gate
from mlretrain.verdict import Check, number, usable


def slice_checks(gate: Gate, evaluation: Evaluation, sign: float) -> Iterator[Check]:
    """The gate's conditions in every slice that is large enough, of each condition the worst slice first.

    A slice that one of the models leaves out fails, and so does a column whose slices leave out rows.
    """
    columns = _columns(evaluation)
    judged = [pair for column in columns for pair in _pairs(gate, evaluation, column)]
    for column in columns:
        yield from _left_out(evaluation, column)
    if not judged:
        yield Check(
            name=f"{gate.metric} in slices",
            passed=False,
            observed="not measured",
            required=f"a slice with at least {gate.min_support} rows",
            note="no slice could be judged",
        )
    of_each = ((*conditions.bounds(gate, pair), *conditions.drop(gate, pair, sign)) for pair in judged)
    few = sum(len(_supports(evaluation, column)) for column in columns) - len(judged)
    for findings in zip(*of_each, strict=True):
        worst, *others = (finding.check for finding in sorted(findings, key=lambda each: each.room))
        yield replace(worst, note="; ".join(each for each in (worst.note, _unjudged(few, gate)) if each))
        yield from others


def gap_checks(gate: Gate, evaluation: Evaluation, sign: float) -> Iterator[Check]:
    """How far the best of ``groups`` is from the worst; fails with fewer than two that are large enough."""
    if gate.groups is None or gate.max_gap is None:
        return
    yield from _left_out(evaluation, gate.groups)
    groups = list(_pairs(gate, evaluation, gate.groups))
    known = {pair.where: pair for pair in groups if usable(pair.candidate)}
    few = len(_supports(evaluation, gate.groups)) - len(groups)
    observed, gap = _missing(groups, gate), float("nan")
    if len(known) == len(groups) > 1:
        best, *_, worst = sorted(known.values(), key=lambda each: -sign * (each.candidate or 0.0))
        gap = abs((best.candidate or 0.0) - (worst.candidate or 0.0))
        observed = f"{number(gap)} (best {_group(best)}, worst {_group(worst)})"
    yield Check(
        name=f"gap of {gate.metric} by {gate.groups}",
        passed=usable(gap) and gap <= gate.max_gap,
        observed=observed,
        required=f"≤ {number(gate.max_gap)}",
        note=_unjudged(few, gate),
    )


def _columns(evaluation: Evaluation) -> list[str]:
    champion = evaluation.champion.slices if evaluation.champion else {}
    return sorted({*evaluation.candidate.slices, *champion})


def _of(evaluation: Evaluation, column: str) -> tuple[dict[str, SliceScores], dict[str, SliceScores]]:
    """Both models' slices of a column."""
    champion = evaluation.champion.slices if evaluation.champion else {}
    return dict(evaluation.candidate.slices.get(column, {})), dict(champion.get(column, {}))


def _supports(evaluation: Evaluation, column: str) -> dict[str, int]:
    """The rows of each value, as many as either model was scored on."""
    ours, theirs = _of(evaluation, column)
    return {
        value: max(each[value].n for each in (ours, theirs) if value in each)
        for value in sorted({*ours, *theirs})
    }


def _pairs(gate: Gate, evaluation: Evaluation, column: str) -> Iterator[Pair]:
    """Every slice large enough in either model's scores, so that one the candidate leaves out fails."""
    metric = str(gate.metric)
    ours, theirs = _of(evaluation, column)
    for value, rows in _supports(evaluation, column).items():
        if rows >= gate.min_support:
            yield Pair(
                metric=metric,
                where=f"{column}={value}",
                candidate=ours[value].metrics.get(metric) if value in ours else None,
                champion=theirs[value].metrics.get(metric) if value in theirs else None,
                first=evaluation.first,
                note=f"{rows} rows",
            )


def _left_out(evaluation: Evaluation, column: str) -> Iterator[Check]:
    """A failed check if some rows of the holdout are in no slice of the column: they may be the worst."""
    rows = sum(_supports(evaluation, column).values())
    if rows != evaluation.rows:
        yield Check(
            name=f"rows in slices of {column}",
            passed=False,
            observed=str(rows),
            required=f"all {evaluation.rows}",
            note="some rows were not scored" if rows else "not measured",
        )


def _unjudged(few: int, gate: Gate) -> str | None:
    return f"not judged: {few} with fewer than {gate.min_support} rows" if few else None


def _missing(groups: list[Pair], gate: Gate) -> str:
    """Why there is no gap."""
    unknown = [pair.where or "" for pair in groups if not usable(pair.candidate)]
    if unknown:
        return f"not measured: no {gate.metric} for {', '.join(unknown[:3])}"
    return f"not measured: {len(groups)} groups of at least {gate.min_support} rows"


def _group(pair: Pair) -> str:
    return f"{pair.where} {number(pair.candidate)} with {pair.note}"
