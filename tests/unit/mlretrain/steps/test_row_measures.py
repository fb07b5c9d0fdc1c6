"""What is measured on rows: beside training's sample or another window's, and never a reason to fail."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlretrain.data.read import connect
from mlretrain.drift import evidently
from mlretrain.drift.domain import DomainShift
from mlretrain.drift.sample import Sample, draw, to_parquet
from mlretrain.runtime.store import read_uri
from mlretrain.steps import profile, row_measures
from mlretrain.steps.profile import Config
from mlretrain.steps.row_measures import RowMeasures
from mlretrain.wire import from_wire

from .conftest import MakeContext, MakeDataset


def _rows(seed: int, sign: int = 1) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    x, y = random.multivariate_normal([0, 0], [[1, 0.9 * sign], [0.9 * sign, 1]], 600).T
    return pd.DataFrame(
        {"served_at": pd.date_range("2025-01-01", periods=600, freq="h"), "x": x, "y": y, "mail": "a@b"}
    )


@pytest.fixture
def sample_uri(tmp_path: Path) -> str:
    with connect() as con:
        table = draw(con.from_df(_rows(1)), ["x", "y", "mail"], time_column="served_at")
    path = tmp_path / "sample.parquet"
    path.write_bytes(to_parquet(Sample(table=table, noise=(0.03, 0.01))))
    return path.as_uri()


@pytest.fixture
def run(make_context: MakeContext, make_dataset: MakeDataset) -> Any:
    def run_profile(frame: pd.DataFrame, **config: Any) -> dict[str, Any]:
        uri = make_dataset(frame, "served_at")
        return profile.run(Config(dataset_uri=uri, **config), make_context("profile"))

    return run_profile


def _shift(result: dict[str, Any]) -> DomainShift:
    return from_wire(DomainShift, json.loads(read_uri(result["domain_uri"])))


def test_a_joint_shift_is_measured_beside_the_kept_sample(run: Any, sample_uri: str) -> None:
    measures = RowMeasures(sample_uri=sample_uri, domain=True)
    shift = _shift(run(_rows(2, sign=-1), rows=measures))
    assert shift.drifted
    assert shift.noise == 0.03
    assert set(shift.columns) == {"x", "y"}
    assert _shift(run(_rows(3), rows=measures)).drifted is False


def test_another_window_can_be_the_reference(run: Any, sample_uri: str, make_dataset: MakeDataset) -> None:
    measures = RowMeasures(sample_uri=sample_uri, domain=True)
    before = make_dataset(_rows(4, sign=-1), "served_at")
    shift = _shift(run(_rows(2, sign=-1), rows=measures, against_uri=before))
    assert shift.drifted is False
    assert shift.noise == 0.03


def test_nothing_is_measured_on_rows_unless_it_is_wanted(run: Any) -> None:
    assert set(run(_rows(1))) == {"profile_uri", "rows"}


@pytest.mark.parametrize(
    ("content", "note"),
    [(None, "no sample of its training rows"), (b"PAR1", "not a sample of reference rows")],
)
def test_a_sample_that_is_missing_or_broken_is_a_reason_for_not_knowing(
    run: Any, tmp_path: Path, content: bytes | None, note: str
) -> None:
    path = tmp_path / "broken.parquet"
    if content:
        path.write_bytes(content)
    measures = RowMeasures(sample_uri=path.as_uri() if content else None, domain=True, evidently=True)
    result = run(_rows(2), rows=measures)
    assert result["profile_uri"]
    assert note in str(_shift(result).note)
    kept = from_wire(evidently.EvidentlyResult, json.loads(read_uri(result["evidently_uri"])))
    assert note in str(kept.note)


def test_a_sample_that_has_vanished_is_named(run: Any, tmp_path: Path) -> None:
    uri = (tmp_path / "gone.parquet").as_uri()
    assert uri in str(_shift(run(_rows(2), rows=RowMeasures(sample_uri=uri, domain=True))).note)


def test_columns_marked_sensitive_are_not_looked_at(run: Any, sample_uri: str) -> None:
    frame = _rows(2).assign(mail="somebody@else")
    measures = RowMeasures(sample_uri=sample_uri, domain=True)
    assert _shift(run(frame, rows=measures)).columns[0] == "mail"
    assert _shift(run(frame, rows=measures, sensitive=("mail",))).drifted is False


def test_evidentlys_word_and_its_page_are_kept(
    run: Any, sample_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = evidently.EvidentlyResult(preset="team:tuned", rows=600, reference_rows=600)
    monkeypatch.setattr(row_measures, "ask_evidently", lambda *_, preset: (said, b"<html>"))
    result = run(_rows(2), rows=RowMeasures(sample_uri=sample_uri, evidently=True, preset="team:tuned"))
    assert from_wire(evidently.EvidentlyResult, json.loads(read_uri(result["evidently_uri"]))) == said
    assert read_uri(result["evidently_page_uri"]) == b"<html>"
