"""What is read for a decision: no more with a long history than with a short one, and all that it takes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlretrain.ledger import Ledger, LedgerEvent
from mlretrain.policy.retrain import RetrainDecision, RetrainPolicy, WindowRecord, decide
from mlretrain.policy.situation import SIGHT
from mlretrain.sight import retrains_in_sight, windows_in_sight
from mlretrain.windows import WindowLog, retrains
from tests.fakes.memory_store import MemoryStore
from tests.unit.mlretrain.policy.windows import DAY, day, window


class CountingStore(MemoryStore):
    """Counts what is read and listed."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = self.lists = 0

    def read(self, path: str) -> bytes:
        self.reads += 1
        return super().read(path)

    def list(self, prefix: str) -> list[str]:
        self.lists += 1
        return super().list(prefix)


POLICY = RetrainPolicy(
    violated=2,
    of=3,
    warm_up=1,
    cooldown_s=7 * DAY,
    min_new_rows=5000,
    budget_max=6,
    budget_per_s=30 * DAY,
)


def request(store: MemoryStore, end: float, champion: str = "7", **evidence: object) -> None:
    event = LedgerEvent(
        pipeline="flights",
        run_id=f"drift__{day(end):%Y%m%dT%H%M%S}Z",
        kind="retrain_requested",
        at=day(end),
        window_end=day(end),
        evidence={"cause": "drift", "champion": champion, **evidence},
    )
    ledger = Ledger(store, "flights")
    ledger.append(event)
    ledger.append(replace(event, kind="concluded", outcome="rejected", at=day(end + 1)))


def record(store: MemoryStore, *windows: WindowRecord) -> None:
    for each in windows:
        WindowLog(store, "flights").record(each)


def decided(store: MemoryStore, end: float, policy: RetrainPolicy = POLICY) -> RetrainDecision:
    """The decision on what is in sight, which is the one on everything."""
    at = {"window_end": day(end), "champion": "7"}
    index = WindowLog(store, "flights").index()
    earlier = retrains_in_sight(Ledger(store, "flights"), policy, **at)  # type: ignore[arg-type]
    windows = windows_in_sight(index, earlier, policy, **at)  # type: ignore[arg-type]
    return decide(policy, windows, earlier, **at)  # type: ignore[arg-type]


def everything(store: MemoryStore, end: float, policy: RetrainPolicy = POLICY) -> RetrainDecision:
    windows, known = WindowLog(store, "flights").all(), retrains(Ledger(store, "flights"))
    return decide(policy, windows, known, window_end=day(end), champion="7")


def history(days: int) -> CountingStore:
    """Windows of a day, every tenth of them drifted, and a retrain every thirty days."""
    store = CountingStore()
    record(store, *(window(end, end % 10 == 0) for end in range(1, days + 1)))
    record(store, *(window(end, measure="performance", performance=False) for end in range(1, days + 1)))
    for end in range(10, days, 30):
        request(store, end)
    return store


def cost(store: CountingStore, end: float) -> tuple[int, int]:
    store.reads = store.lists = 0
    found = decided(store, end)
    reads, lists = store.reads, store.lists
    assert found == everything(store, end)
    return reads, lists


def test_reads_do_not_grow_with_history() -> None:
    costs = {days: cost(history(days), days) for days in (100, 400, 1600)}
    assert len(set(costs.values())) == 1
    assert costs[1600] <= (20, 4)


def test_nor_does_deciding_an_old_window_again_read_what_came_since() -> None:
    assert cost(history(1600), 100) == cost(history(1600), 1000)


@pytest.mark.parametrize("state", [True, None])
def test_nor_where_no_window_was_ever_fine(state: bool | None) -> None:
    policy = replace(POLICY, min_new_rows=0)
    costs = []
    for days in (SIGHT + 100, SIGHT + 400):
        store = CountingStore()
        record(store, *(window(end, state) for end in range(1, days + 1)))
        for end in (3, 11):
            request(store, end)
        store.reads = 0
        found = decided(store, days, policy)
        costs.append(store.reads)
        assert found == everything(store, days, policy)
        assert found.level == "page"
    assert costs[0] == costs[1] <= SIGHT + 10


def test_a_champion_that_came_back_sees_its_own_old_windows_no_further_than_that() -> None:
    store = MemoryStore()
    record(store, *(window(end) for end in range(1, 4)))
    record(store, *(window(end, False, champion="8") for end in range(4, SIGHT + 10)))
    record(store, window(SIGHT + 10))
    found = decided(store, SIGHT + 10)
    assert found == everything(store, SIGHT + 10)
    assert [each.window_end for each in found.windows] == [day(SIGHT + 10)]


def test_runs_whose_names_do_not_say_their_window_are_read() -> None:
    store = MemoryStore()
    record(store, *(window(end) for end in range(1, 10)))
    request(store, 5)
    (started,) = [path for path in store.list("flights/ledger/") if "retrain_requested" in path]
    store.write(started.replace(".20130425T000000Z", ""), store.objects.pop(started))
    found = decided(store, 9)
    assert found == everything(store, 9)
    assert "last retrain 4 d ago (drift, rejected)" in found.reason


def test_dry_runs_are_passed_over() -> None:
    store = MemoryStore()
    record(store, *(window(end) for end in range(1, 21)))
    request(store, 1)
    for end in (3, 12, 15):
        request(store, end, dry_run=True)
    assert decided(store, 10) == everything(store, 10)
    assert "last retrain 9 d ago" in decided(store, 10).reason
    assert "last retrain 19 d ago" in decided(store, 20).reason


def test_rows_are_counted_as_far_back_as_it_takes() -> None:
    store = MemoryStore()
    record(store, *(window(end, rows=100) for end in range(1, 80)))
    assert decided(store, 49).reason == everything(store, 49).reason
    assert "new rows is 4900, required at least 5000" in decided(store, 49).reason
    assert decided(store, 50).verdict == "retrain"


def test_a_later_retrain_is_seen_and_only_the_first() -> None:
    store = CountingStore()
    record(store, *(window(end) for end in range(1, 100)))
    for end in range(10, 100, 8):
        request(store, end)
    store.reads = 0
    at = {"window_end": day(9), "champion": "7"}
    found = retrains_in_sight(Ledger(store, "flights"), POLICY, **at)  # type: ignore[arg-type]
    assert [each.window_end for each in found] == [day(10)]
    assert store.reads == 3, "the last link, and the two events of one run"
