"""Rows scored by real models: split, mirrored, taken up again, done again where they differ."""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import LinearRegression

from mlretrain.batch import tally
from mlretrain.batch.output import Output
from mlretrain.data.dataset import write_dataset
from mlretrain.data.read import connect, scan
from mlretrain.data.resolve import resolve
from mlretrain.errors import InvalidInput
from mlretrain.gates.predictions import PredictionLog
from mlretrain.ports import VersionStats
from mlretrain.runtime.context import StepContext
from mlretrain.runtime.store import open_store, read_uri
from mlretrain.steps import score
from tests.fixtures_s3 import moto_server, s3_env

from .conftest import MakeContext

MODEL = "scored-flights"
AT = "2026-03-01T00:00:00+00:00"

Versions = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def versions(_database: str, tmp_path_factory: pytest.TempPathFactory) -> Versions:
    """1 says a hundredth of the distance, 2 always 7, 3 needs a column that is not there."""
    rows = pd.DataFrame({"distance": [100.0, 200.0, 400.0], "hour": [1.0, 2.0, 3.0]})
    constant = DummyRegressor(strategy="constant", constant=7.0)
    columns = {"1": list(rows), "2": list(rows), "3": ["elevation"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.set_tracking_uri(_database)
        mlflow.set_experiment("flight-delay")
        for version, names in columns.items():
            given = rows.set_axis(["elevation", "hour"], axis=1) if version == "3" else rows
            model = (constant if version == "2" else LinearRegression()).fit(given[names], [1.0, 2.0, 4.0])
            signature = mlflow.models.infer_signature(given[names], [1.0])
            mlflow.sklearn.log_model(
                model, name="m", signature=signature, registered_model_name=MODEL, pip_requirements=[]
            )
    return {version: {"model_uri": f"models:/{MODEL}/{version}", "tags": {}} for version in columns}


def write_flights(path: Path, first: int = 0, rows: int = 500) -> None:
    number = pd.Series(range(first, first + rows))
    frame = pd.DataFrame(
        {
            "flight": number,
            "time": pd.Timestamp("2013-01-01") + pd.to_timedelta(number, unit="h"),
            "distance": number % 100 + 0.5,
            "hour": number % 24,
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(path, index=False)


@dataclass(kw_only=True)
class Scores:
    """A folder of data and one of scores."""

    make_context: MakeContext
    env: dict[str, str]
    versions: Versions
    data: Path
    uri: str
    tallies: str

    def context(self, **traffic: Any) -> StepContext:
        return self.make_context("score", env=self.env, traffic=traffic, versions=self.versions, at=AT)

    def run(self, weights: Mapping[str, int], *, mirrored: Any = None, **config: Any) -> dict[str, Any]:
        ctx = self.context(weights=dict(weights), mirrored=mirrored or {}, generation=4)
        return self.run_in(ctx, **config)

    def run_in(self, ctx: StepContext, window: Any = None, **config: Any) -> dict[str, Any]:
        start, end = window or (None, None)
        dataset = resolve(str(self.data), time_column="time", start=start, end=end)
        uri = (self.data.parent / "dataset.json").as_uri()
        write_dataset(dataset, uri)
        given = {"model": MODEL, "output_uri": self.uri, "key": ("flight",), "tallies_uri": self.tallies}
        return score.run(score.Config(dataset_uri=uri, **(given | {"batch_rows": 128} | config)), ctx)

    def table(self, pattern: str = "") -> pd.DataFrame:
        uri = self.uri + pattern
        with connect() as con:
            files = resolve(uri, env=self.env).files
            return pd.DataFrame(scan(con, files, "parquet", self.env).to_arrow_table().to_pandas())

    def success(self) -> dict[str, Any]:
        return dict(json.loads(read_uri(f"{self.uri}/_SUCCESS", self.env)))

    def stats(self) -> dict[str, VersionStats]:
        since = datetime(2026, 3, 1, tzinfo=UTC)
        store = open_store(self.tallies.rpartition("/")[0], self.env)
        return tally.read_tallies(store, "tallies", since)

    def objects(self) -> dict[str, tuple[int, str | None]]:
        """When each object appeared, and what it is."""
        root = Path(self.uri.removeprefix("file://"))
        return {
            path.relative_to(root).as_posix(): (
                path.stat().st_mtime_ns,
                Output(self.uri).etag(str(path.relative_to(root))),
            )
            for path in sorted(root.rglob("*"))
            if path.is_file()
        }


@pytest.fixture
def scores(
    make_context: MakeContext, tracking_env: dict[str, str], versions: Versions, tmp_path: Path
) -> Scores:
    data = tmp_path / "data"
    for i, name in enumerate(("a", "b", "deep/c")):
        write_flights(data / f"{name}.parquet", first=500 * i)
    return Scores(
        make_context=make_context,
        env=tracking_env,
        versions=versions,
        data=data,
        uri=(tmp_path / "scores").as_uri(),
        tallies=(tmp_path / "artifacts/tallies").as_uri(),
    )


def test_every_row_is_scored_by_one_version_in_one_partition_for_each_file(scores: Scores) -> None:
    result = scores.run({"1": 90, "2": 10})

    found = scores.table()
    assert list(found) == ["flight", "time", "distance", "hour", "prediction", "model_version", "served_at"]
    assert sorted(found["flight"]) == list(range(1500))
    share = (found["model_version"] == "2").mean()
    assert 0.07 < share < 0.13
    assert (found.loc[found["model_version"] == "2", "prediction"] == 7.0).all()
    expected = found["distance"] / 100
    assert found.loc[found["model_version"] == "1", "prediction"].to_numpy() == pytest.approx(
        expected[found["model_version"] == "1"].to_numpy()
    )
    assert (result["rows"], result["partitions"], result["scored"], result["kept"]) == (1500, 3, 3, 0)
    success = scores.success()
    assert [each["path"] for each in success["partitions"]] == ["a.parquet", "b.parquet", "deep/c.parquet"]
    assert success["versions"]["2"]["weight"] == 10
    assert success["versions"]["1"]["rows"] + success["versions"]["2"]["rows"] == 1500
    assert success["generation"] == 4
    assert success["schema"][-3:] == [
        {"name": "prediction", "type": "double"},
        {"name": "model_version", "type": "string"},
        {"name": "served_at", "type": "timestamp[us, tz=UTC]"},
    ]


def test_what_is_scored_already_is_left_alone(scores: Scores) -> None:
    first = scores.run({"1": 90, "2": 10})
    before = scores.objects()
    again = scores.run({"1": 90, "2": 10})

    assert scores.objects() == before
    assert (again["scored"], again["kept"]) == (0, 3)
    assert again["versions"] == first["versions"]


def test_a_job_that_died_is_taken_up_where_it_stopped(
    scores: Scores, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores.run({"1": 100})
    ctx = scores.context(weights={"1": 90, "2": 10}, generation=5)

    def dies(self: StepContext, done: float, total: float, message: str = "") -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(StepContext, "progress", dies)
        with pytest.raises(KeyboardInterrupt):
            scores.run_in(ctx)
    half = scores.objects()
    assert "_SUCCESS" not in half
    leftover = Path(scores.uri.removeprefix("file://"), "deep/.scoring-of-a-job-that-was-killed")
    leftover.write_bytes(b"PAR1")
    result = scores.run_in(ctx)

    whole = scores.objects()
    assert (result["scored"], result["kept"], result["rows"]) == (2, 1, 1500)
    assert not leftover.exists()
    assert whole["a.parquet"] == half["a.parquet"]
    assert all(whole[name] != half[name] for name in ("b.parquet", "deep/c.parquet"))
    assert scores.success()["generation"] == 5


def test_only_the_partition_whose_input_has_changed_is_scored_again(scores: Scores) -> None:
    scores.run({"1": 100})
    before = scores.objects()
    write_flights(scores.data / "b.parquet", first=500, rows=400)
    result = scores.run({"1": 100})

    after = scores.objects()
    assert (result["scored"], result["rows"]) == (1, 1400)
    assert {name for name, each in after.items() if before.get(name) != each} == {
        "_SUCCESS",
        "_manifests/b.json",
        "b.parquet",
    }


def test_another_order_scores_again_and_a_version_that_grows_keeps_its_rows(scores: Scores) -> None:
    scores.run({"1": 90, "2": 10})
    few = scores.table()
    result = scores.run({"1": 50, "2": 50})

    many = scores.table()
    assert result["scored"] == 3
    assert set(few.loc[few["model_version"] == "2", "flight"]) < set(
        many.loc[many["model_version"] == "2", "flight"]
    )


def test_what_somebody_has_touched_is_scored_again(scores: Scores) -> None:
    scores.run({"1": 100})
    Path(scores.uri.removeprefix("file://"), "a.parquet").unlink()

    assert scores.run({"1": 100})["scored"] == 1
    assert len(scores.table()) == 1500


def test_a_file_that_went_away_takes_its_scores_with_it(scores: Scores) -> None:
    scores.run({"1": 100}, mirrored={"2": 100})
    (scores.data / "b.parquet").unlink()
    result = scores.run({"1": 100}, mirrored={"2": 100})

    assert (result["scored"], result["kept"], result["rows"]) == (0, 2, 1000)
    assert sorted(set(scores.objects()) - {"_SUCCESS"}) == [
        ".mirrored/a.parquet",
        ".mirrored/deep/c.parquet",
        "_manifests/a.json",
        "_manifests/deep/c.json",
        "a.parquet",
        "deep/c.parquet",
    ]


def test_windows_stand_side_by_side_and_each_replaces_itself_alone(scores: Scores) -> None:
    days = [datetime(2013, 1, day, tzinfo=UTC) for day in (1, 2, 3)]
    for window in itertools.pairwise(days):
        scores.run_in(scores.context(weights={"1": 100}), window, partition_by="time")

    assert sorted(scores.objects()) == [
        "_SUCCESS",
        "_manifests/time=2013-01-01/rows-20130101T000000Z-20130102T000000Z.json",
        "_manifests/time=2013-01-02/rows-20130102T000000Z-20130103T000000Z.json",
        "time=2013-01-01/rows-20130101T000000Z-20130102T000000Z.parquet",
        "time=2013-01-02/rows-20130102T000000Z-20130103T000000Z.parquet",
    ]
    assert sorted(scores.table()["flight"]) == list(range(48))
    again = scores.run_in(scores.context(weights={"1": 100}), (days[0], days[1]), partition_by="time")
    assert (again["scored"], again["kept"]) == (0, 1)


def test_of_partitions_by_value_only_those_with_other_rows_are_scored_again(scores: Scores) -> None:
    before = scores.run({"1": 100}, partition_by="hour")
    write_flights(scores.data / "late.parquet", first=1500, rows=1)
    after = scores.run({"1": 100}, partition_by="hour")

    assert (before["partitions"], after["scored"], after["kept"], after["rows"]) == (24, 1, 23, 1501)
    assert scores.table("/hour=12/*.parquet")["hour"].unique().tolist() == [12]


def test_a_mirrored_version_is_compared_and_its_answers_are_nobody_s(scores: Scores) -> None:
    scores.run({"1": 100}, mirrored={"2": 50})

    assert set(scores.table()["model_version"]) == {"1"}
    copies = scores.table("/.mirrored/*.parquet")
    assert set(copies["model_version"]) == {"2"}
    stats = scores.stats()
    assert stats["2"].compared == stats["2"].requests == len(scores.table("/.mirrored/**/*.parquet"))
    assert 650 < stats["2"].compared < 850
    assert stats["2"].disagreement == pytest.approx(1.0, abs=0.02)
    assert stats["2"].difference_p95 == pytest.approx(6.95, rel=0.05)
    assert (stats["1"].requests, stats["1"].errors) == (1500, 0)
    assert stats["1"].latency_p95_ms is not None


def test_a_version_that_serves_and_fails_fails_the_step_and_is_told_of(scores: Scores) -> None:
    with pytest.raises(InvalidInput, match=r"version 3 cannot score these rows .*'elevation'"):
        scores.run({"1": 90, "3": 10})

    assert scores.stats()["3"].errors == scores.stats()["3"].requests > 0
    assert not scores.objects()


def test_a_version_that_is_only_mirrored_may_fail(scores: Scores) -> None:
    result = scores.run({"1": 100}, mirrored={"3": 100})

    assert result["rows"] == 1500
    assert (scores.stats()["3"].requests, scores.stats()["3"].errors) == (1500, 1500)
    assert not [name for name in scores.objects() if name.startswith(".mirrored")]


def test_a_model_that_is_not_what_was_registered_scores_nothing(scores: Scores) -> None:
    tags = {"mlretrain.model_sha256": "0" * 64}
    changed = replace(scores, versions={"1": {**scores.versions["1"], "tags": tags}})

    with pytest.raises(InvalidInput, match="not what was registered: other files"):
        changed.run({"1": 100})


def test_columns_can_be_chosen_and_the_key_is_kept(scores: Scores) -> None:
    scores.run({"1": 100}, columns=("hour",))

    assert list(scores.table()) == ["flight", "hour", "prediction", "model_version", "served_at"]
    with pytest.raises(InvalidInput, match="no column 'hours'"):
        scores.run({"1": 100}, columns=("hours",))


def test_the_gates_read_the_scores_as_a_prediction_log(scores: Scores) -> None:
    for path in scores.data.rglob("*.parquet"):
        pd.read_parquet(path).assign(date=lambda rows: rows["time"]).to_parquet(path, index=False)
    scores.run({"1": 50, "2": 50}, partition_by="date")

    # Data of 2013, scored after 2026 has begun.
    shift = PredictionLog(scores.uri).shift("2", "1", datetime(2026, 1, 1, tzinfo=UTC))
    assert shift is not None
    assert shift.effect > 0.5
    assert shift.rows + shift.champion_rows == 1500


def test_scores_appear_in_s3(scores: Scores) -> None:
    pytest.importorskip("moto")
    with moto_server("ml-scores") as endpoint:
        env = {**scores.env, **s3_env(endpoint)}
        away = replace(
            scores, env=env, uri="s3://ml-scores/scores", tallies="s3://ml-scores/artifacts/tallies"
        )
        first = away.run({"1": 90, "2": 10}, mirrored={"3": 10})
        write_flights(away.data / "b.parquet", first=500, rows=400)
        (away.data / "deep/c.parquet").unlink()
        second = away.run({"1": 90, "2": 10}, mirrored={"3": 10})

        assert (first["rows"], first["scored"]) == (1500, 3)
        assert (second["rows"], second["scored"], second["kept"]) == (900, 1, 1)
        assert sorted(away.table()["flight"]) == list(range(900))
        assert [each["path"] for each in away.success()["partitions"]] == ["a.parquet", "b.parquet"]
        assert Output(away.uri, env).list("") == [
            "_SUCCESS",
            "_manifests/a.json",
            "_manifests/b.json",
            "a.parquet",
            "b.parquet",
        ]
