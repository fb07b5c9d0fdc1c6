"""The model card: every word is from ledger, registry or evidence; ``card.md`` is read as a reader would."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mlretrain.card import brief, card, card_path, publish
from mlretrain.dossier import Dossier, gather
from mlretrain.errors import NotFound, TransientError
from mlretrain.gates.evaluation import Evaluation, Interval, Scores, SliceScores
from mlretrain.importance import Importance
from mlretrain.ledger import EventKind, Ledger, LedgerEvent
from mlretrain.performance.calibration import Calibration
from mlretrain.ports import ModelVersion, Traffic
from mlretrain.verdict import Check
from mlretrain.wire import pretty
from tests.fakes.memory_store import MemoryStore
from tests.fakes.registry import FakeRegistry
from tests.fakes.tracker import FakeTracker

GOLDEN = Path(__file__).with_name("card.md")
START = datetime(2026, 3, 2, 6, tzinfo=UTC)
PIPELINE = "flight-delay"
ROOT = "memory://artifacts"

EVALUATION = Evaluation(
    holdout_sha256="d" * 64,
    rows=2000,
    candidate=Scores(
        holdout_sha256="d" * 64,
        metrics={"roc_auc": 0.7432, "log_loss": 0.5123, "latency_p95_ms": 3.21, "model_size_mb": 1.4},
        slices={
            "carrier": {
                "AA": SliceScores(n=700, metrics={"roc_auc": 0.76}),
                "B6": SliceScores(n=650, metrics={"roc_auc": 0.71}),
                "*nobody* | x": SliceScores(n=650, metrics={"roc_auc": 0.74}),
            }
        },
    ),
    champion=Scores(
        holdout_sha256="d" * 64,
        metrics={"roc_auc": 0.7311, "log_loss": 0.5234, "latency_p95_ms": 3.1, "model_size_mb": 1.3},
        slices={"carrier": {"AA": SliceScores(n=700, metrics={"roc_auc": 0.75})}},
    ),
    champion_version="1",
    differences={"roc_auc": Interval(estimate=0.0121, low=0.004, high=0.0202, confidence=0.95)},
    intervals={"roc_auc": Interval(estimate=0.7432, low=0.72, high=0.766, confidence=0.95)},
)
CALIBRATION = Calibration(
    served="probability", classes=(0, 1), rows=2000, error=0.021, scores=(0.1, 0.8), shares=(0.12, 0.77)
)
CHECKS = [
    Check(name="roc_auc", passed=True, observed="0.7432", required="≥ 0.7"),
    Check(name="smoke test", passed=True, observed="passed", required="passes"),
]
GUARDS = {"stats": {"requests": 1240, "errors": 1, "latency_p95_ms": 12.4}, "since": "2026-03-09T07:00:00Z"}


class World:
    """A pipeline whose second version was judged, approved, shifted and promoted."""

    def __init__(self) -> None:
        self.store, self.registry, self.tracker = MemoryStore(ROOT), FakeRegistry(), FakeTracker()
        self.ledger = Ledger(self.store, PIPELINE)
        self.at = START

    def put(self, path: str, content: Any) -> str:
        self.store.write(path, pretty(content))
        return f"{ROOT}/{path}"

    def read(self, uri: str) -> bytes:
        return self.store.read(uri.removeprefix(f"{ROOT}/"))

    def event(self, kind: EventKind, run: str, version: str, **fields: Any) -> None:
        self.at += timedelta(hours=1)
        window_end = START if run == "run-1" else START + timedelta(days=7)
        self.ledger.append(
            LedgerEvent(
                pipeline=PIPELINE,
                run_id=run,
                kind=kind,
                at=self.at,
                window_end=window_end,
                version=version,
                **fields,
            )
        )

    def dossier(self, version: str) -> Dossier:
        return gather(PIPELINE, version, ledger=self.ledger, registry=self.registry, read=self.read)


def first(world: World) -> None:
    world.registry.register(PIPELINE, "models:/m-1", "mlflow-1", {})
    world.event("registered", "run-1", "1")
    world.event("promoted", "run-1", "1", traffic=Traffic(weights={"1": 100}), reason="the first")


def second(world: World) -> None:
    world.at = START + timedelta(days=7)
    run_id = world.tracker.open_run(PIPELINE, "key", "flight-delay 2026-03-09", {})
    tags = {
        "reason": "drift: psi of distance 0.31",
        "dataset_fingerprint": "f" * 64,
        "holdout_sha256": "d" * 64,
        "model_sha256": "a" * 64,
        "signature_sha256": "b" * 64,
        "champion_before": "1",
        "evaluation_uri": world.put("e.json", EVALUATION),
        "calibration_uri": world.put("c.json", CALIBRATION),
        "importance_uri": world.put(
            "i.json", Importance(method="native", values={"distance": 0.75, "hour": 0.25})
        ),
        "profile_uri": world.put(
            "p.json",
            {"version": 1, "rows": 8000, "columns": [], "start": START, "end": START + timedelta(days=7)},
        ),
    }
    tagged = {f"mlretrain.{name}": value for name, value in tags.items()}
    world.registry.register(PIPELINE, "models:/m-2", run_id, tagged)
    world.event("registered", "run-2", "2", evidence={"mlflow_run_id": run_id})
    smoke = world.put("s.json", [Check(name="files", passed=True, observed="aaaa", required="aaaa")])
    world.event(
        "tested",
        "run-2",
        "2",
        outcome="passed",
        reason="the model is unchanged, and answers its input example",
        evidence={"checks_uri": smoke},
    )
    verdict = world.put("v.json", {"verdict": "promote", "reason": "…", "checks": CHECKS})
    world.event(
        "gated",
        "run-2",
        "2",
        previous="1",
        outcome="promote",
        reason="promote: all 2 checks hold (roc_auc 0.7432); champion v1",
        evidence={"checks_uri": verdict, "gates": [{"metric": "roc_auc", "min": 0.7}]},
    )
    world.event(
        "approved",
        "run-2",
        "2",
        by="alice",
        outcome="approved",
        reason="looks *good*",
        evidence={"asked": ["alice", "bob"]},
    )
    canary = Traffic(weights={"1": 90, "2": 10})
    world.event(
        "shifted", "run-2", "2", previous="1", outcome="10", traffic=canary, evidence={"strategy": "canary"}
    )
    world.event(
        "observed", "run-2", "2", outcome="advance-10", reason="advance: all 2 guards hold", evidence=GUARDS
    )
    world.event("shifted", "run-2", "2", previous="1", outcome="alone", traffic=Traffic(weights={"2": 100}))
    world.event(
        "promoted", "run-2", "2", previous="1", outcome="promoted", reason="promote: all 2 checks hold"
    )


@pytest.fixture
def world() -> World:
    made = World()
    first(made)
    second(made)
    return made


def test_the_card_of_a_champion(world: World, pytestconfig: pytest.Config) -> None:
    text = card(world.dossier("2"))
    if pytestconfig.getoption("--update-golden"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


def test_the_card_of_who_was_champion_before(world: World) -> None:
    text = card(world.dossier("1"))
    assert "It was champion from 2026-03-02 08:00 UTC until 2026-03-09 14:00 UTC." in text
    assert f"mlretrain rollback {PIPELINE} --to v1" in text
    assert "## Approval" not in text
    assert "## Scores" not in text


def test_a_version_that_was_rolled_back_says_so(world: World) -> None:
    world.event("rolled_back", "run-3", "1", previous="2", reason="late on Mondays", by="bob")
    text = card(world.dossier("2"))
    assert "It was champion from" in text
    assert "| rolled back by bob |  | late on Mondays |" in text


def test_a_version_that_nobody_has_judged(world: World) -> None:
    world.registry.register(PIPELINE, "models:/m-3", "mlflow-3", {})
    text = card(world.dossier("3"))
    assert text.startswith("# flight-delay, version 3\n\nIt has never been champion.\n")


def test_evidence_that_is_lost_or_broken_is_said_to_be(world: World) -> None:
    del world.store.objects["e.json"]
    world.store.write("c.json", b'{"rows": "many"}')
    text = card(world.dossier("2"))
    assert "- evaluation: `memory://artifacts/e.json` (the file is gone)" in text
    assert "- calibration: `memory://artifacts/c.json` (not understood: " in text
    assert "## Scores" not in text


def test_a_store_that_does_not_answer_is_asked_again(world: World) -> None:
    def read(uri: str) -> bytes:
        raise TransientError("the store does not answer")

    with pytest.raises(TransientError):
        gather(PIPELINE, "2", ledger=world.ledger, registry=world.registry, read=read)


def test_there_is_no_card_of_nobody(world: World) -> None:
    with pytest.raises(NotFound, match="no such version"):
        world.dossier("9")


def test_the_description_is_the_card_as_far_as_there_is_room(world: World) -> None:
    dossier = world.dossier("2")
    whole = card(dossier)
    for limit in (900, 2000, 5000, 100_000):
        text = brief(dossier, "s3://b/card.md", limit)
        assert len(text) <= limit
        assert text.startswith("# flight-delay, version 2")
        assert text.endswith("The whole card: `s3://b/card.md`\n")
    assert text == f"{whole}\nThe whole card: `s3://b/card.md`\n"


def test_the_card_is_published_in_three_places(world: World) -> None:
    uri = publish(world.dossier("2"), store=world.store, tracker=world.tracker, registry=world.registry)
    assert uri == f"{ROOT}/{card_path(PIPELINE, '2')}" == f"{ROOT}/flight-delay/cards/v2.md"
    text = world.store.objects["flight-delay/cards/v2.md"]
    assert world.tracker.runs["run1"].files == {"card.md": text}
    assert world.registry.descriptions[PIPELINE, "2"].startswith("# flight-delay, version 2")


def test_a_version_without_a_run_has_a_card_too() -> None:
    world = World()
    dossier = Dossier(version=ModelVersion(name=PIPELINE, version="1"))
    world.registry.register(PIPELINE, "models:/m-1", "mlflow-1", {})
    publish(dossier, store=world.store, tracker=world.tracker, registry=world.registry)
    assert world.store.objects["flight-delay/cards/v1.md"].startswith(b"# flight-delay, version 1")
