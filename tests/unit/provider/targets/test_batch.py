"""Orders for batch scoring: two at once, versions that are not there, what scoring jobs have told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mlretrain.batch.orders import Orders, batch_folder
from mlretrain.batch.tally import Tally, tally_name, write_tallies
from mlretrain.errors import ConfigError, InvalidInput, Superseded
from mlretrain.ports import Traffic
from mlretrain.runtime.store import FileStore
from mlretrain.serving.compare import Comparison
from mlretrain_provider.hooks.mlflow import MLflowHook
from mlretrain_provider.targets import Surroundings, open_target
from mlretrain_provider.targets.batch import BatchTarget
from tests.fakes.registry import FakeRegistry

BEGUN = datetime(2026, 3, 9, 6, tzinfo=UTC)


@pytest.fixture
def around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Surroundings:
    registry = FakeRegistry()
    for number in ("1", "2"):
        registry.register("m", f"models:/{number}", number, {})
    monkeypatch.setattr(MLflowHook, "registry", lambda hook: registry)
    return Surroundings(pipeline="p", artifacts_uri=tmp_path.as_uri())


def test_a_version_that_is_not_registered_is_refused_and_changes_nothing(around: Surroundings) -> None:
    target = open_target({"target": "batch"}, around)
    target.apply("m", Traffic(weights={"1": 100}, generation=1))
    for order in (Traffic(weights={"3": 100}, generation=2), Traffic(weights={"1": 100}, mirrored={"3": 5})):
        with pytest.raises(InvalidInput, match="version 3 of m is not registered"):
            target.apply("m", order)

    assert target.current("m") == Traffic(weights={"1": 100}, generation=1)


def test_there_is_nothing_to_connect_to(around: Surroundings) -> None:
    with pytest.raises(ConfigError, match="has no connection"):
        open_target({"target": "batch", "conn_id": "x"}, around)


class Overtaken(FileStore):
    """Somebody else orders between this one's look and its order."""

    other: Traffic | None = None

    def create(self, path: str, data: bytes) -> bool:
        if self.other is not None:
            order, self.other = self.other, None
            Orders(self, "f").place("m", order)
        return super().create(path, data)


def test_of_two_orders_at_once_the_later_generation_stands(tmp_path: Path) -> None:
    for mine, other in ((5, 6), (6, 5)):
        store = Overtaken(tmp_path / str(mine))
        store.other = Traffic(weights={"2": 100}, generation=other)
        try:
            Orders(store, "f").place("m", Traffic(weights={"1": 100}, generation=mine))
        except Superseded:
            assert mine == 5
        assert Orders(store, "f").last().in_force.generation == 6


def test_an_order_that_is_repeated_is_kept_once(around: Surroundings, tmp_path: Path) -> None:
    target = BatchTarget(around=around)
    for _ in range(3):
        target.apply("m", Traffic(weights={"2": 10, "1": 90}, generation=1))

    assert [path.name for path in tmp_path.rglob("*.json")] == ["00000001.json"]


def test_what_scoring_jobs_have_told_adds_up(around: Surroundings, tmp_path: Path) -> None:
    store, folder = FileStore(tmp_path), f"{batch_folder('p', 'm')}/tallies"
    old, champion, canary = Tally(), Tally(), Tally()
    old.answered(10, 1.0)
    champion.answered(900, 0.9)
    canary.answered(100, 0.2)
    canary.failed(50)
    canary.differed(Comparison(rows=100, differing=4, differences=(*(0.0,) * 90, *(0.5,) * 10)))
    write_tallies(store, f"{folder}/{tally_name(BEGUN - timedelta(seconds=1), 'j-1')}", {"1": old})
    write_tallies(store, f"{folder}/{tally_name(BEGUN, 'j-2')}", {"1": champion, "2": canary})
    write_tallies(store, f"{folder}/{tally_name(BEGUN + timedelta(hours=1), 'j-3')}", {"1": champion})
    stats = BatchTarget(around=around).metrics("m", BEGUN)

    assert (stats["1"].requests, stats["1"].errors) == (1800, 0)
    assert stats["1"].latency_p95_ms == pytest.approx(1.0, rel=0.02)
    assert (stats["2"].requests, stats["2"].errors, stats["2"].compared) == (150, 50, 100)
    assert stats["2"].disagreement == 0.04
    assert stats["2"].difference_p95 == pytest.approx(0.5, rel=0.02)
