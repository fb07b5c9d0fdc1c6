"""What Evidently says is taken as it says it; what it stumbles over is a reason, not a failure."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from mlretrain.drift.evidently import ColumnScore, EvidentlyResult, ask_evidently
from mlretrain.drift.policy import DriftPolicy, compare
from mlretrain.drift.profile import DriftProfile
from mlretrain.drift.verdict import DriftReport
from mlretrain.errors import ConfigError
from mlretrain.wire import from_wire, to_wire
from tests.unit.mlretrain.drift.columns import numeric

Answer = Callable[[pd.DataFrame, pd.DataFrame], dict[str, Any]]


def _drift(column: str, method: str, score: float, status: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A metric and its test, as Evidently 0.7.23 writes them."""
    params = {
        "type": "evidently:metric_v2:ValueDrift",
        "column": column,
        "method": method,
        "threshold": 0.05,
    }
    metric = {"id": f"id-{column}", "config": params, "value": score}
    test = {"id": "drift", "metric_config": {"metric_id": f"id-{column}", "params": params}, "status": status}
    return metric, test


def _answer(current: pd.DataFrame, reference: pd.DataFrame) -> dict[str, Any]:
    pairs = [
        _drift("x", "K-S p_value", 0.001, "FAIL"),
        _drift("c", "chi-square p_value", 0.4, "SUCCESS"),
    ]
    share = {"id": "s", "config": {}, "value": {"count": 1.0, "share": 0.5}}
    params = {"type": "evidently:metric_v2:DriftedColumnsCount", "drift_share": 0.5}
    counted = {"id": "lt", "metric_config": {"metric_id": "s", "params": params}, "status": "FAIL"}
    return {"metrics": [share, *(m for m, _ in pairs)], "tests": [counted, *(t for _, t in pairs)]}


class FakeReport:
    """Evidently's ``Report`` as far as it is used; ``answer`` is what it finds in ``asked``."""

    answer: Answer = staticmethod(_answer)
    asked: tuple[pd.DataFrame, pd.DataFrame]

    def __init__(self, metrics: list[Any], include_tests: bool = False) -> None:
        self.metrics = metrics
        self.include_tests = include_tests

    def run(self, current: pd.DataFrame, reference: pd.DataFrame) -> FakeReport:
        assert self.include_tests, "or nothing says which columns drifted"
        FakeReport.asked = current, reference
        return self

    def dict(self) -> dict[str, Any]:
        return type(self).answer(*self.asked)

    def get_html_str(self, as_iframe: bool) -> str:
        return "<html>"


@pytest.fixture(autouse=True)
def _evidently(monkeypatch: pytest.MonkeyPatch) -> None:
    package, presets, team = ModuleType("evidently"), ModuleType("evidently.presets"), ModuleType("team")
    package.Report = FakeReport  # type: ignore[attr-defined]
    presets.DataDriftPreset = object  # type: ignore[attr-defined]
    team.tuned = lambda: FakeReport(["tuned"])  # type: ignore[attr-defined]
    team.nothing = lambda: None  # type: ignore[attr-defined]
    for module in (package, presets, team):
        monkeypatch.setitem(sys.modules, module.__name__, module)


def _table(n: int, **columns: Any) -> pa.Table:
    times = pa.array([datetime(2025, 1, 1, tzinfo=UTC)] * n)
    return pa.table({"mlretrain_time": times, "x": [1.0] * n, "c": ["a"] * n, **columns})


def test_scores_methods_and_thresholds_are_evidentlys() -> None:
    result, page = ask_evidently(_table(30), _table(20))
    assert result.columns == (
        ColumnScore(name="x", method="K-S p_value", score=0.001, threshold=0.05, drifted=True),
        ColumnScore(name="c", method="chi-square p_value", score=0.4, threshold=0.05, drifted=False),
    )
    assert (result.rows, result.reference_rows, result.note) == (20, 30, None)
    assert page == b"<html>"
    current, reference = FakeReport.asked
    assert (len(current), len(reference)) == (20, 30)
    assert list(current.columns) == ["x", "c"]
    assert from_wire(EvidentlyResult, to_wire(result)) == result


def test_a_teams_own_report_is_asked_which_columns_drifted_too() -> None:
    result, _ = ask_evidently(_table(30), _table(20), preset="team:tuned")
    assert result.preset == "team:tuned"
    assert len(result.columns) == 2


def test_columns_of_one_side_or_without_values_are_not_shown_to_evidently() -> None:
    nothing = pa.nulls(30, pa.float64())
    ask_evidently(
        _table(30, gone=[1] * 30, empty=nothing, kind=["1"] * 30), _table(30, empty=[1.0] * 30, kind=[1] * 30)
    )
    assert list(FakeReport.asked[0].columns) == ["x", "c"]


def test_what_evidently_stumbles_over_is_the_reason_for_not_knowing(monkeypatch: pytest.MonkeyPatch) -> None:
    def stumble(*_: Any) -> dict[str, Any]:
        raise ValueError("Too many bins for data range.\nCannot create 10")

    monkeypatch.setattr(FakeReport, "answer", staticmethod(stumble))
    result, page = ask_evidently(_table(30), _table(20))
    assert result.note == "Evidently failed with ValueError: Too many bins for data range."
    assert page is None


def test_a_preset_that_measures_no_drift_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeReport, "answer", staticmethod(lambda *_: {"metrics": [], "tests": []}))
    assert ask_evidently(_table(30), _table(20))[0].note == "the preset measures no drift of any column"


def test_samples_without_a_column_in_common_say_so() -> None:
    result, _ = ask_evidently(pa.table({"a": [1.0]}), pa.table({"b": [1.0]}))
    assert result.note == "no column has values in both the reference and the window"


@pytest.mark.parametrize(
    ("preset", "message"),
    [
        ("team:nothing", r"drift\.preset: team:nothing returned no report \(found NoneType"),
        ("team:tunde", r"drift\.preset: team has no function 'tunde'.*team:tuned"),
        ("nowhere:x", r"drift\.preset: there is no module 'nowhere'"),
    ],
)
def test_a_preset_that_is_none_is_a_mistake_in_the_settings(preset: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ask_evidently(_table(30), _table(20), preset=preset)


def test_an_evidently_that_does_not_import_says_what_the_job_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "evidently", None)
    with pytest.raises(ConfigError, match=r"requirements: evidently==0\.7\.23, pandas<3"):
        ask_evidently(_table(30), _table(20))


def _profiles(*names: str) -> tuple[DriftProfile, DriftProfile]:
    """A reference with three columns, and a window of the same distribution with ``names``."""
    values = [float(i) for i in range(2_000)]
    every = [numeric(name, values) for name in ("a", "b", "c")]
    window = tuple(each for each in every if each.name in names)
    return DriftProfile(rows=2_000, columns=tuple(every)), DriftProfile(rows=2_000, columns=window)


def _said(**scores: tuple[float, bool]) -> EvidentlyResult:
    columns = tuple(
        ColumnScore(name=name, method="K-S p_value", score=score, threshold=0.05, drifted=drifted)
        for name, (score, drifted) in scores.items()
    )
    return EvidentlyResult(preset="p", rows=500, reference_rows=500, columns=columns)


def test_its_verdicts_go_before_ours_and_the_share_is_of_its_columns() -> None:
    report = compare(
        *_profiles("a", "b", "c"), DriftPolicy(share=0.5), evidently=_said(a=(0.001, True), b=(0.7, False))
    )
    assert report.engine == "evidently"
    assert [each.name for each in report.columns] == ["a", "b"], "it has said nothing of c"
    assert report.verdict == "drift"
    assert report.summary.startswith("1 of 2 columns drifted (share 0.5 ≥ 0.5): a K-S p_value 0.001 ≤ 0.05")
    assert from_wire(DriftReport, to_wire(report)) == report


def test_a_column_that_has_vanished_is_still_told() -> None:
    report = compare(
        *_profiles("a", "b"), DriftPolicy(share=0.5), evidently=_said(a=(0.7, False), b=(0.7, False))
    )
    assert report.signals["schema"] is True
    assert report.verdict == "stable"
    assert "c has vanished" in report.summary


def test_what_it_could_not_measure_is_unknown() -> None:
    failed = replace(_said(), note="Evidently failed with ValueError: Too many bins")
    report = compare(*_profiles("a", "b", "c"), DriftPolicy(), evidently=failed)
    assert report.verdict == "unknown"
    assert report.summary == "unknown: Evidently failed with ValueError: Too many bins"
    assert report.signals["drift"] is None
