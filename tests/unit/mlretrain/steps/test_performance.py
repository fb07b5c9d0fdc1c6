"""The performance of a champion on one window, from files, by the real step."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from mlretrain.errors import ConfigError, TransientError
from mlretrain.gates.promotion import Evaluation, Interval, Scores
from mlretrain.performance.calibration import Calibration, calibrate
from mlretrain.performance.policy import PerformanceReport
from mlretrain.performance.report import render_html
from mlretrain.runtime.store import read_uri
from mlretrain.scoring import Array, Predictions
from mlretrain.steps import performance
from mlretrain.wire import from_wire, pretty

from .conftest import MakeContext, MakeDataset

Measure = Callable[..., PerformanceReport]
ROWS = 3_000


def make_rows(shift: float = 0.0, seed: int = 3) -> tuple[Array, Array]:
    """Calibrated probabilities and labels."""
    random = np.random.default_rng(seed)
    logit = random.normal(shift, 1.5, ROWS)
    probability = 1 / (1 + np.exp(-logit))
    return probability, (random.random(ROWS) < probability).astype(int)


@pytest.fixture
def log() -> pd.DataFrame:
    """The predictions of version 3, with some of version 2 among them."""
    probability, _ = make_rows()
    return pd.DataFrame(
        {
            "flight_id": range(ROWS),
            "served_at": pd.date_range("2013-04-01", periods=ROWS, freq="3min", tz="UTC"),
            "prediction": probability,
            "model_version": np.where(np.arange(ROWS) % 10 == 0, "2", "3"),
        }
    )


@pytest.fixture
def labels() -> pd.DataFrame:
    _, late = make_rows()
    return pd.DataFrame({"flight_id": range(ROWS), "late": late})


@pytest.fixture
def champion(tmp_path: Path) -> dict[str, str]:
    """Version 3, with what its evaluation has left: an area of 0.80 and a calibration."""
    probability, late = make_rows(seed=4)
    scores = Scores(holdout_sha256="x", metrics={"roc_auc": 0.80})
    evaluation = Evaluation(
        holdout_sha256="x",
        rows=ROWS,
        candidate=scores,
        intervals={"roc_auc": Interval(estimate=0.80, low=0.78, high=0.82, confidence=0.95)},
    )
    predictions = Predictions(
        values=(probability >= 0.5).astype(int),
        probabilities=np.stack([1 - probability, probability], axis=1),
        classes=(0, 1),
    )
    calibration = calibrate(probability.tolist(), predictions, late, seconds=None, seed=0)
    return {
        "version": "3",
        "evaluation_uri": _put(tmp_path / "evaluation.json", evaluation),
        "calibration_uri": _put(tmp_path / "calibration.json", calibration),
    }


def _put(path: Path, value: Any) -> str:
    path.write_bytes(pretty(value))
    return path.as_uri()


@pytest.fixture
def measure(make_context: MakeContext, make_dataset: MakeDataset, champion: dict[str, str]) -> Measure:
    def run(
        log: pd.DataFrame, labels: pd.DataFrame | None, frozen: dict[str, Any] | None = None, **config: Any
    ) -> PerformanceReport:
        given: dict[str, Any] = {
            "dataset_uri": make_dataset(log, "served_at"),
            "labels_uri": None if labels is None else make_dataset(labels),
            "join_on": ("flight_id",),
            "target": "late",
            "metric": "roc_auc",
            "min": 0.65,
        }
        ctx = make_context("performance", champion=frozen or champion)
        result = performance.run(performance.Config(**(given | config)), ctx)
        return from_wire(PerformanceReport, json.loads(read_uri(result["performance_uri"])))

    return run


def _numbers(report: PerformanceReport) -> list[float]:
    """Its lower end, its value and its upper end."""
    found = [each for each in (report.low, report.value, report.high) if each is not None]
    assert len(found) == 3
    return found


def test_labels_decide(measure: Measure, log: pd.DataFrame, labels: pd.DataFrame) -> None:
    report = measure(log, labels)
    mine = log["model_version"] == "3"
    assert report.value == pytest.approx(roc_auc_score(labels["late"][mine], log["prediction"][mine]))
    assert (report.verdict, report.basis, report.rows, report.labelled) == ("fine", "labels", 2700, 2700)
    assert _numbers(report) == sorted(_numbers(report))
    assert report.summary.startswith(f"roc_auc {report.value:.4g} [")
    assert report.summary.endswith("] on 100 % labelled of 2,700 predictions, required ≥ 0.65")
    assert report.champion_value == 0.80
    assert sum(group.rows for group in report.groups) == 2700
    assert set(report.metrics) == {"accuracy", "brier", "f1", "log_loss", "precision", "recall", "roc_auc"}
    assert "the interval is drawn from 7 blocks of time" in report.notes


def test_a_champion_that_has_become_worse(measure: Measure, log: pd.DataFrame, labels: pd.DataFrame) -> None:
    wrong = labels.assign(late=np.where(labels.index % 2 == 0, labels["late"], 1 - labels["late"]))
    report = measure(log, wrong, min=None, max_drop=0.05)
    assert report.verdict == "violated"
    assert report.summary.endswith("required ≥ 0.75 (its evaluation's 0.8 [0.78, 0.82] less 0.05)")


def test_a_limit_that_is_missed_by_chance_is_told(
    measure: Measure, log: pd.DataFrame, labels: pd.DataFrame
) -> None:
    value = _numbers(measure(log, labels))[1]
    report = measure(log, labels, min=value + 0.005)
    assert report.verdict == "fine"
    assert report.summary.endswith(", missed within the margin of chance")


def test_too_few_labels_are_replaced_by_an_estimate(
    measure: Measure, log: pd.DataFrame, labels: pd.DataFrame
) -> None:
    on_all, estimated = measure(log, labels), measure(log, labels[:300])
    assert (estimated.verdict, estimated.basis, estimated.labelled) == ("fine", "estimate", 270)
    assert estimated.coverage == pytest.approx(0.1)
    low, _, high = _numbers(estimated)
    assert low < _numbers(on_all)[1] < high
    told = "estimated without labels (10 % of 2,700 predictions have a label, 50 % needed), required ≥ 0.65"
    assert estimated.summary.endswith(told)


def test_without_any_label_the_reason_is_told(measure: Measure, log: pd.DataFrame) -> None:
    report = measure(log, None, labels_trouble="no labels: nothing there")
    assert report.basis == "estimate"
    assert "estimated without labels (no labels: nothing there)" in report.summary


def test_labels_that_cannot_be_joined_are_no_failure(
    measure: Measure, log: pd.DataFrame, labels: pd.DataFrame
) -> None:
    report = measure(log, labels.rename(columns={"flight_id": "flight"}))
    assert report.basis == "estimate"
    assert "there is no column 'flight_id'" in report.summary


def test_nobody_need_estimate(measure: Measure, log: pd.DataFrame, labels: pd.DataFrame) -> None:
    report = measure(log, labels[:300], estimate="never")
    assert (report.verdict, report.basis, report.value) == ("unknown", "none", None)
    assert report.summary == "roc_auc is not measured: 10 % of 2,700 predictions have a label, 50 % needed"


def test_what_cannot_be_estimated_is_unknown(
    measure: Measure, log: pd.DataFrame, champion: dict[str, str], tmp_path: Path
) -> None:
    calibration = Calibration(served="value", rows=10, reason="the model serves no probability")
    frozen = {**champion, "calibration_uri": _put(tmp_path / "none.json", calibration)}
    regression = measure(log, None, frozen, metric="rmse", min=None, max_drop=1.0)
    assert "; no estimate: rmse cannot be estimated without labels" in regression.summary
    assert "no estimate: the model serves no probability" in measure(log, None, frozen).summary
    bare = {"version": "3", "evaluation_uri": None, "calibration_uri": None}
    assert "champion v3 has no calibration" in measure(log, None, bare).summary


def test_labels_of_one_class_say_nothing(measure: Measure, log: pd.DataFrame, labels: pd.DataFrame) -> None:
    report = measure(log, labels.assign(late=0))
    assert report.basis == "estimate"
    assert "roc_auc is not defined on these rows" in report.summary


def test_a_drop_from_an_unknown_score_is_unknown(
    measure: Measure, log: pd.DataFrame, labels: pd.DataFrame, champion: dict[str, str], tmp_path: Path
) -> None:
    gone = {**champion, "evaluation_uri": (tmp_path / "gone.json").as_uri()}
    report = measure(log, labels, gone, min=None, max_drop=0.1)
    assert (report.verdict, report.basis) == ("unknown", "labels")
    assert report.value is not None
    assert any("evaluation cannot be read" in note for note in report.notes)


def test_classes_are_judged_as_they_are(measure: Measure, log: pd.DataFrame, labels: pd.DataFrame) -> None:
    bare = {"version": "3"}
    served = log.assign(prediction=(log["prediction"] > 0.5).map({True: "late", False: "on time"}))
    truth = labels.assign(late=labels["late"].map({1: "late", 0: "on time"}))
    report = measure(served, truth, bare, metric="accuracy")
    mine = log["model_version"] == "3"
    assert report.value == pytest.approx((served["prediction"] == truth["late"])[mine].mean())
    assert {group.predicted for group in report.groups} == {"late", "on time"}
    area = measure(served, truth, bare)
    assert "roc_auc needs probabilities" in area.summary
    assert area.verdict == "unknown"


def test_numbers_are_judged_as_they_are(measure: Measure, log: pd.DataFrame, labels: pd.DataFrame) -> None:
    delays = labels.assign(late=log["prediction"] * 60 + 2)
    report = measure(
        log.assign(prediction=log["prediction"] * 60),
        delays,
        {"version": "3"},
        metric="mae",
        min=None,
        max_drop=1.0,
    )
    assert report.value == pytest.approx(2.0)
    assert report.metrics == pytest.approx({"rmse": 2.0, "mae": 2.0, "r2": report.metrics["r2"]})


def test_a_probability_of_text_classes(
    measure: Measure, log: pd.DataFrame, labels: pd.DataFrame, champion: dict[str, str], tmp_path: Path
) -> None:
    known = from_wire(Calibration, json.loads(read_uri(champion["calibration_uri"])))
    named = Calibration(
        served="probability",
        classes=("early", "late"),
        rows=known.rows,
        scores=known.scores,
        shares=known.shares,
        drawn=known.drawn,
    )
    frozen = {**champion, "calibration_uri": _put(tmp_path / "named.json", named)}
    texts = labels.assign(late=labels["late"].map({1: "late", 0: "early"}))
    assert measure(log, texts, frozen).value == measure(log, labels).value
    report = measure(log, texts.replace("early", "cancelled"), frozen)
    assert report.basis == "estimate"
    assert "a label is none of the champion's classes (found 'cancelled'" in report.summary


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model_version": "2"}, "none of the 3,000 predictions in the window is of champion v3"),
        ({"prediction": np.nan}, "none of the 2,700 predictions of champion v3 is usable"),
        ({"prediction": "?"}, "the predictions are no probabilities"),
        ({"prediction": 7.0}, "the predictions are no probabilities"),
    ],
)
def test_a_log_that_says_nothing(
    measure: Measure, log: pd.DataFrame, labels: pd.DataFrame, change: dict[str, Any], reason: str
) -> None:
    report = measure(log.assign(**change), labels)
    assert (report.verdict, report.basis) == ("unknown", "none")
    assert reason in report.summary


def test_a_file_that_has_gone_is_unknown(
    measure: Measure, make_dataset: MakeDataset, log: pd.DataFrame, labels: pd.DataFrame, tmp_path: Path
) -> None:
    uri = make_dataset(log, "served_at")
    Path(uri.removeprefix("file://")).with_suffix(".parquet").unlink()
    report = measure(log, labels, dataset_uri=uri)
    assert report.verdict == "unknown"
    assert report.summary.startswith("roc_auc is not measured: file://")


def test_a_store_that_does_not_answer_is_tried_again(
    measure: Measure, log: pd.DataFrame, labels: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> Any:
        raise TransientError("S3 failed", where="s3://logs")

    monkeypatch.setattr("mlretrain.data.read.open_relation", away)
    with pytest.raises(TransientError):
        measure(log, labels)


def test_a_setting_that_cannot_work_fails(measure: Measure, log: pd.DataFrame, labels: pd.DataFrame) -> None:
    with pytest.raises(ConfigError, match="nothing that performance must hold"):
        measure(log, labels, min=None)


def test_the_same_window_twice_is_the_same(measure: Measure, log: pd.DataFrame, labels: pd.DataFrame) -> None:
    shuffled = log.sample(frac=1, random_state=1), labels.sample(frac=1, random_state=2)
    assert measure(log, labels).value == pytest.approx(measure(*shuffled).value)
    assert measure(log, labels).summary == measure(*shuffled).summary


@pytest.mark.parametrize("labelled", [0, ROWS])
def test_the_page_tells_people(
    measure: Measure, log: pd.DataFrame, labels: pd.DataFrame, labelled: int
) -> None:
    report = measure(log, labels[:labelled] if labelled else None)
    html = render_html(report, "churn <b>")
    assert "churn &lt;b&gt;" in html
    assert ("came true" if labelled else "expected") in html
    assert len(html) < 10_000
