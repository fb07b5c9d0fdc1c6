"""Verdicts: right on unchanged data, right on a shift, unknown on what is broken, and in words."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from mlretrain.drift.domain import DomainShift
from mlretrain.drift.metrics import measure
from mlretrain.drift.policy import ColumnPolicy, DriftPolicy, compare
from mlretrain.drift.profile import ColumnProfile, DriftProfile
from mlretrain.errors import ConfigError
from tests.unit.mlretrain.drift.columns import categorical, numeric


def pair(n: int, shifts: Sequence[float], seed: int) -> tuple[DriftProfile, DriftProfile]:
    random_ = random.Random(seed)
    old = [numeric(f"x{i}", [random_.gauss(0, 1) for _ in range(n)]) for i in range(len(shifts))]
    new = [
        numeric(each.name, [random_.gauss(shift, 1) for _ in range(n)], each.grid)
        for each, shift in zip(old, shifts, strict=True)
    ]
    return DriftProfile(rows=n, columns=tuple(old)), DriftProfile(rows=n, columns=tuple(new))


def with_column(profile: DriftProfile, column: ColumnProfile) -> DriftProfile:
    return replace(profile, columns=(*profile.columns, column))


@pytest.mark.parametrize("n", [1_000, 10_000])
def test_unchanged_data_is_stable_and_half_a_deviation_is_found(n: int) -> None:
    for seed in range(5):
        report = compare(*pair(n, [0.0] * 6, seed), DriftPolicy())
        assert [each.name for each in report.columns if each.drifted] == []
    shifted = compare(*pair(n, [0.5, 0.5, 0.0, 0.0, 0.0, 0.0], 9), DriftPolicy())
    assert {each.name for each in shifted.columns if each.drifted} == {"x0", "x1"}
    assert shifted.verdict == "drift"
    assert shifted.signals["drift"] is True


def test_the_summary_is_one_sentence_with_the_evidence() -> None:
    report = compare(*pair(2_000, [0.5, 0.0, 0.0], 1), DriftPolicy())
    assert report.summary.startswith("1 of 3 columns drifted (share 0.333 ≥ 0.3): x0 KS 0.2")
    stable = compare(*pair(2_000, [0.0, 0.0, 0.0], 1), DriftPolicy())
    assert (stable.verdict, stable.summary) == ("stable", "0 of 3 columns drifted (share 0 < 0.3)")


def test_too_few_rows_are_unknown() -> None:
    report = compare(*pair(500, [3.0], 1), DriftPolicy())
    assert (report.verdict, report.summary) == ("unknown", "unknown: 500 rows, at least 1000 are needed")
    assert report.signals == {
        "drift": None,
        "prediction": None,
        "domain": None,
        "schema": False,
        "quality": None,
    }


def test_importance_decides_what_counts_and_what_comes_first() -> None:
    profiles = pair(5_000, [0.5, 0.6, 0.0], 1)
    light = compare(*profiles, DriftPolicy(), importance={"x0": 0.1, "x1": 0.1, "x2": 0.8})
    assert (light.verdict, round(light.share, 3)) == ("stable", 0.2)
    heavy = compare(*profiles, DriftPolicy(), importance={"x0": 8, "x1": 1, "x2": 1})
    assert (heavy.verdict, round(heavy.share, 3)) == ("drift", 0.9)
    assert [each.name for each in heavy.columns] == ["x0", "x1", "x2"]
    unknown_to_the_model = compare(*profiles, DriftPolicy(), importance={"other": 1.0})
    assert round(unknown_to_the_model.share, 3) == 0.667


def test_the_learnt_noise_of_a_column_is_granted_to_it() -> None:
    reference, current = pair(2_000, [0.5], 1)
    assert compare(reference, current, DriftPolicy()).verdict == "drift"
    noisy = replace(reference, columns=(replace(reference.columns[0], noise={"ks": 0.3}),))
    assert compare(noisy, current, DriftPolicy()).verdict == "stable"


def test_fewer_rows_than_a_chunk_had_are_granted_more_noise() -> None:
    reference, current = pair(2_000, [0.5], 1)
    noisy = replace(
        reference, columns=(replace(reference.columns[0], noise={"ks": 0.1}),), chunks=12, chunk_rows=8_000
    )
    assert compare(noisy, current, DriftPolicy()).columns[0].noise == pytest.approx(0.2)


def test_another_grid_is_interpolated() -> None:
    random_ = random.Random(3)
    old, new = (numeric("x", [random_.gauss(0, 1) for _ in range(20_000)]) for _ in range(2))
    assert old.grid is not None
    other = replace(old.grid, center=0.3, scale=1.7)
    new = numeric("x", [random_.gauss(0, 1) for _ in range(20_000)], other)
    assert measure("ks", old, new) < 0.03
    moved = numeric("x", [random_.gauss(0.5, 1) for _ in range(20_000)], other)
    assert measure("ks", old, moved) == pytest.approx(0.197, abs=0.03)
    assert measure("wasserstein", old, moved) == pytest.approx(0.5, abs=0.05)


def test_columns_have_rules_of_their_own() -> None:
    reference, current = pair(2_000, [0.5, 0.5], 1)
    policy = DriftPolicy(
        columns={"x0": "ignore", "x1": ColumnPolicy(method="wasserstein", threshold=0.8)}, share=0.01
    )
    report = compare(reference, current, policy)
    assert [(each.name, each.method, each.drifted) for each in report.columns] == [
        ("x1", "wasserstein", False)
    ]
    with pytest.raises(ConfigError, match="new_category_share means nothing for a numeric column"):
        compare(reference, current, DriftPolicy(defaults=ColumnPolicy(method="new_category_share")))


def test_lost_values_and_new_categories_are_told_as_quality() -> None:
    old = (categorical("a", {"x": 1000, "y": 1000}), categorical("c", {"x": 2000}))
    new = (
        categorical("a", {"x": 500, "y": 500}, nulls=1000),
        replace(categorical("c", {"x": 1000}, other=1000), fresh=(("z", 900), ("w", 100))),
    )
    report = compare(
        DriftProfile(rows=2000, columns=old), DriftProfile(rows=2000, columns=new), DriftPolicy()
    )
    assert report.quality == (
        "a is missing in 50.0% of the rows instead of 0.0%",
        "c has new values in 50.0% of the rows: z, w",
    )
    assert report.signals["quality"] is True
    assert {each.name: (each.method, each.drifted) for each in report.columns} == {
        "a": ("missing_rate", True),
        "c": ("total_variation", True),
    }


def test_a_lost_column_breaks_the_schema_and_is_not_drift() -> None:
    reference, current = pair(2_000, [0.0] * 5, 1)
    lost = replace(current, columns=current.columns[:4])
    report = compare(reference, lost, DriftPolicy())
    assert (report.verdict, report.schema) == ("stable", ("x4 has vanished",))
    assert (report.signals["drift"], report.signals["schema"]) == (False, True)
    assert "x4 has vanished" in report.summary
    changed = replace(lost, columns=(*lost.columns, categorical("x4", {"a": 2000})))
    assert compare(reference, changed, DriftPolicy()).schema == (
        "x4 has changed from numeric to categorical",
    )


def test_a_window_that_has_lost_what_matters_is_unknown() -> None:
    reference, current = pair(2_000, [0.0] * 5, 1)
    empty = [replace(each, nulls=each.n, cells=(), counts=()) for each in current.columns]
    report = compare(reference, replace(current, columns=tuple(empty)), DriftPolicy())
    assert report.verdict == "unknown"
    assert report.summary == (
        "unknown: 5 of 5 columns, 100% of the importance, cannot be measured: "
        "x0 has no values, x1 has no values, x2 has no values and 2 more"
    )
    one = replace(current, columns=(empty[0], *current.columns[1:]))
    assert compare(reference, one, DriftPolicy()).verdict == "stable"
    assert compare(reference, one, DriftPolicy(), importance={"x0": 0.9, "x1": 0.1}).verdict == "unknown"


def test_rows_that_are_all_alike_are_unknown() -> None:
    reference, current = pair(2_000, [0.0, 0.0], 1)
    stuck = [numeric(each.name, [0.5] * 2_000, each.grid) for each in reference.columns]
    report = compare(reference, replace(current, columns=tuple(stuck)), DriftPolicy())
    assert (report.verdict, report.summary) == ("unknown", "unknown: every row holds the same values")


def test_drifted_predictions_alone_make_the_window_drift() -> None:
    (reference, current), (old, new) = pair(2_000, [0.0], 1), pair(2_000, [1.0], 2)
    answers = [replace(each.columns[0], name="prediction") for each in (old, new)]
    reference, current = with_column(reference, answers[0]), with_column(current, answers[1])
    report = compare(reference, current, DriftPolicy(prediction_threshold=0.1))
    assert (report.verdict, report.signals["prediction"]) == ("drift", True)
    assert (report.share, len(report.columns)) == (0.0, 1)
    assert "; prediction KS 0.4 > 0.15" in report.summary
    ignored = compare(reference, current, DriftPolicy())
    assert (ignored.verdict, ignored.signals["prediction"]) == ("stable", None)


def test_a_joint_shift_alone_makes_the_window_drift() -> None:
    shift = DomainShift(auc=0.9, low=0.88, high=0.92, threshold=0.6, noise=0.05, rows=5000, drifted=True)
    report = compare(*pair(2_000, [0.0], 1), DriftPolicy(), domain=shift)
    assert (report.verdict, report.signals["domain"]) == ("drift", True)
    assert str(shift) in report.summary


def test_psi_of_few_rows_is_smoothed_not_floored() -> None:
    random_ = random.Random(5)
    old = numeric("x", [random_.gauss(0, 1) for _ in range(100)])
    new = numeric("x", [random_.gauss(0, 1) for _ in range(100)], old.grid)
    assert measure("psi", old, new) < 1.5
