"""Whole rollouts on SageMaker endpoints, as a pipeline's tasks order them; AWS is a fake over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

pytest.importorskip("airflow.providers.amazon")

from mlretrain.errors import InvalidInput
from mlretrain.ledger import Ledger
from mlretrain.ports import CHAMPION, Traffic
from mlretrain.rollout import Rollout
from mlretrain.runtime.store import open_store
from mlretrain_provider.targets.sagemaker import SageMakerTarget
from tests.fakes.registry import FakeRegistry
from tests.fixtures_endpoints import PIPELINE, FakeEndpoints, fake_endpoints
from tests.fixtures_s3 import s3_env

pytestmark = pytest.mark.airflow

BEGAN = datetime(2026, 3, 2, tzinfo=UTC)


class Pipeline:
    """A pipeline with its registry, its ledger in S3, and an endpoint."""

    def __init__(self, aws: FakeEndpoints) -> None:
        self.registry = FakeRegistry()
        store = open_store(aws.artifacts_uri, s3_env(aws.endpoint_url))
        self.ledger = Ledger(store, PIPELINE, self.registry)
        self.target: SageMakerTarget = aws.target()

    def rollout(self, number: int) -> Rollout:
        return Rollout(
            pipeline=PIPELINE,
            run_id=f"run-{number}",
            window_end=BEGAN + timedelta(days=number),
            ledger=self.ledger,
            registry=self.registry,
            target=self.target,
        )

    def train(self) -> str:
        count = len(self.registry.versions(PIPELINE))
        return self.registry.register(PIPELINE, f"runs:/{count}/model", str(count), {}).version

    def promote(self) -> str:
        version = self.train()
        self.rollout(int(version)).promote(version, champion=self.champion, reason="it is better")
        return version

    @property
    def champion(self) -> str | None:
        found = self.registry.version(PIPELINE, f"@{CHAMPION}")
        return found.version if found else None

    @property
    def served(self) -> Traffic:
        return self.target.current(PIPELINE)


@pytest.fixture(scope="module")
def cloud() -> Iterator[FakeEndpoints]:
    with fake_endpoints() as fake:
        yield fake


@pytest.fixture
def aws(cloud: FakeEndpoints) -> FakeEndpoints:
    cloud.forget()
    return cloud


@pytest.fixture
def pipeline(aws: FakeEndpoints) -> Pipeline:
    """With version 1 as champion."""
    pipeline = Pipeline(aws)
    assert pipeline.promote() == "1"
    return pipeline


def test_a_canary_grows_is_promoted_and_moved_back(pipeline: Pipeline, aws: FakeEndpoints) -> None:
    candidate, rollout = pipeline.train(), pipeline.rollout(2)
    for share in (10, 50):
        traffic = Traffic(weights={"1": 100 - share, candidate: share})
        rollout.shift(candidate, traffic, champion="1", outcome=str(share))
        assert pipeline.served.same(traffic)
    rollout.promote(candidate, champion="1", reason="it is better")

    assert (pipeline.champion, pipeline.served.weights) == ("2", {"2": 100})
    assert pipeline.served.generation == pipeline.ledger.standing().traffic.generation
    uploaded = aws.calls.count("create_model")
    pipeline.rollout(3).move_back("1", reason="customers complain", by="alice")
    assert (pipeline.champion, pipeline.served.weights) == ("1", {"1": 100})
    assert aws.calls.count("create_model") == uploaded


def test_a_breached_canary_serves_nothing_and_leaves_nothing(pipeline: Pipeline, aws: FakeEndpoints) -> None:
    candidate, rollout = pipeline.train(), pipeline.rollout(2)
    rollout.shift(candidate, Traffic(weights={"1": 90, candidate: 10}), champion="1", outcome="10")
    rollout.withdraw(candidate, "error_rate 0.2 > 0.01")
    rollout.roll_back(candidate, "error_rate 0.2 > 0.01")

    assert (pipeline.champion, pipeline.served.weights) == ("1", {"1": 100})
    assert [each.startswith("flights-v1-") for each in aws.models] == [True]
    assert len(aws.objects()) == 1


def test_a_shadow_is_mirrored_then_promoted(pipeline: Pipeline) -> None:
    candidate, rollout = pipeline.train(), pipeline.rollout(2)
    mirrored = Traffic(weights={"1": 100}, mirrored={candidate: 20})
    rollout.shift(candidate, mirrored, champion="1", outcome="20")
    assert pipeline.served.same(mirrored)
    rollout.promote(candidate, champion="1", reason="it answers alike")

    assert pipeline.served.same(Traffic(weights={candidate: 100}))


def test_blue_waits_on_standby_until_green_has_proved_itself(pipeline: Pipeline) -> None:
    candidate, rollout = pipeline.train(), pipeline.rollout(2)
    for outcome, traffic in (
        ("standby", Traffic(weights={"1": 100, candidate: 0})),
        ("100", Traffic(weights={"1": 0, candidate: 100})),
    ):
        rollout.shift(candidate, traffic, champion="1", outcome=outcome)
        assert pipeline.served.same(traffic)
    rollout.roll_back(candidate, "latency_p95_ms")

    assert pipeline.served.same(Traffic(weights={"1": 100}))


def test_an_update_that_aws_takes_back_gives_the_run_up(pipeline: Pipeline, aws: FakeEndpoints) -> None:
    candidate, rollout = pipeline.train(), pipeline.rollout(2)
    aws.fail("The container for production variant v2 did not pass the ping health check.")
    with pytest.raises(InvalidInput, match="ping health check"):
        rollout.shift(candidate, Traffic(weights={"1": 90, candidate: 10}), champion="1", outcome="10")
    rollout.roll_back(candidate, "it did not come up")

    assert (pipeline.champion, pipeline.served.weights) == ("1", {"1": 100})
