import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from mlretrain.errors import Superseded, TransientError
from mlretrain.ports import Traffic
from mlretrain.serving import router as router_module
from mlretrain.serving.router import (
    LoadFailed,
    NotReady,
    Router,
    UnknownModel,
)
from mlretrain.serving.state import TrafficFile


class Versions:
    """Loads any version but ``broken`` ones; a version in ``gates`` loads when its event is set."""

    def __init__(self) -> None:
        self.loads: list[str] = []
        self.broken: dict[str, Exception] = {}
        self.gates: dict[str, threading.Event] = {}

    def __call__(self, model: str, version: str) -> Any:
        self.loads.append(version)
        if version in self.gates:
            assert self.gates[version].wait(10)
        if version in self.broken:
            raise self.broken[version]
        return f"{model}/{version}"


@pytest.fixture
def versions() -> Versions:
    return Versions()


@pytest.fixture
def make(tmp_path: Path, versions: Versions) -> Callable[[], Router]:
    return lambda: Router(versions, TrafficFile(tmp_path))


def split(router: Router, requests: int) -> Mapping[str, int]:
    return Counter(router.pick("m").version for _ in range(requests))


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_every_hundred_requests_are_split_exactly(make: Callable[[], Router]) -> None:
    async def scenario() -> None:
        router = make()
        await router.apply("m", Traffic(weights={"7": 90, "8": 9, "9": 1}))

        assert split(router, 100) == {"7": 90, "8": 9, "9": 1}
        assert split(router, 1000) == {"7": 900, "8": 90, "9": 10}

    asyncio.run(scenario())


def test_the_smaller_share_is_spread_out(make: Callable[[], Router]) -> None:
    async def scenario() -> None:
        router = make()
        await router.apply("m", Traffic(weights={"7": 90, "8": 10}))
        order = [router.pick("m").version for _ in range(100)]

        assert all("8" in order[i : i + 10] for i in range(0, 100, 10))

    asyncio.run(scenario())


def test_a_version_with_no_weight_is_loaded_but_never_picked(make: Callable[[], Router]) -> None:
    async def scenario() -> None:
        router = make()
        await router.apply("m", Traffic(weights={"7": 100, "8": 0}))

        assert router.loaded("m") == ["7", "8"]
        assert split(router, 300) == {"7": 300}

    asyncio.run(scenario())


def test_applying_the_same_weights_loads_nothing(make: Callable[[], Router], versions: Versions) -> None:
    async def scenario() -> None:
        router = make()
        await router.apply("m", Traffic(weights={"7": 100}))
        await router.apply("m", Traffic(weights={"7": 100}))

        assert versions.loads == ["7"]

    asyncio.run(scenario())


def test_a_version_is_unloaded_after_its_last_request(make: Callable[[], Router]) -> None:
    async def scenario() -> None:
        router = make()
        await router.apply("m", Traffic(weights={"7": 100}))
        old = router.pick("m")
        with old.answering(), old.answering():
            await router.apply("m", Traffic(weights={"8": 100}))
            await settled()
            assert router.traffic("m").weights == {"8": 100}
            assert router.loaded("m") == ["7", "8"]
        await settled()
        assert router.loaded("m") == ["8"]

    asyncio.run(scenario())


def test_a_version_that_comes_back_while_it_drains_stays(
    make: Callable[[], Router], versions: Versions
) -> None:
    async def scenario() -> None:
        router = make()
        await router.apply("m", Traffic(weights={"7": 100}))
        with router.pick("m").answering():
            await router.apply("m", Traffic(weights={"8": 100}))
            await router.apply("m", Traffic(weights={"7": 100}))
        await settled()
        assert router.loaded("m") == ["7"]
        assert versions.loads == ["7", "8"]

    asyncio.run(scenario())


def test_a_version_that_cannot_be_loaded_changes_nothing(
    make: Callable[[], Router], versions: Versions
) -> None:
    async def scenario() -> None:
        router = make()
        await router.apply("m", Traffic(weights={"7": 100}))
        versions.broken["8"] = LoadFailed("models:/m/8 cannot be loaded")
        with pytest.raises(LoadFailed):
            await router.apply("m", Traffic(weights={"7": 90, "8": 10}))

        assert router.traffic("m").weights == {"7": 100}
        assert make().restoring == {"m": "loading"}
        del versions.broken["8"]
        await router.apply("m", Traffic(weights={"7": 90, "8": 10}))
        assert router.traffic("m").weights == {"7": 90, "8": 10}

    asyncio.run(scenario())


def test_a_rollback_does_not_wait_for_a_version_that_loads_and_wins(
    make: Callable[[], Router], versions: Versions
) -> None:
    async def scenario() -> None:
        router = make()
        await router.apply("m", Traffic(weights={"7": 100}))
        versions.gates["8"] = threading.Event()
        canary = asyncio.ensure_future(router.apply("m", Traffic(weights={"7": 90, "8": 10})))
        await settled()
        await router.apply("m", Traffic(weights={"7": 100}))
        versions.gates["8"].set()
        with pytest.raises(Superseded, match="a later change of m"):
            await canary

        assert router.traffic("m").weights == {"7": 100}
        assert router.loaded("m") == ["7"]

    asyncio.run(scenario())


def test_two_changes_that_want_the_same_version_load_it_once(
    make: Callable[[], Router], versions: Versions
) -> None:
    async def scenario() -> None:
        router = make()
        versions.gates["7"] = threading.Event()
        both = asyncio.gather(
            router.apply("m", Traffic(weights={"7": 100})), router.apply("m", Traffic(weights={"7": 100}))
        )
        await settled()
        versions.gates["7"].set()
        await both

        assert versions.loads == ["7"]

    asyncio.run(scenario())


def test_a_restart_serves_what_was_served(make: Callable[[], Router]) -> None:
    async def scenario() -> None:
        await make().apply("m", Traffic(weights={"7": 90, "8": 10}))
        router = make()
        with pytest.raises(NotReady):
            router.pick("m")
        await router.restore()

        assert router.restoring == {}
        assert split(router, 100) == {"7": 90, "8": 10}

    asyncio.run(scenario())


def test_a_restart_waits_for_a_registry_that_is_away(
    make: Callable[[], Router], versions: Versions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(router_module, "RESTORE_PAUSES_S", (0.0,))

    async def scenario() -> None:
        await make().apply("m", Traffic(weights={"7": 100}))
        versions.broken["7"] = TransientError("the registry is away")
        router = make()
        restoring = asyncio.ensure_future(router.restore())
        while "away" not in router.restoring["m"]:
            await asyncio.sleep(0)
        del versions.broken["7"]
        await restoring

        assert router.traffic("m").weights == {"7": 100}

    asyncio.run(scenario())


def test_a_version_that_is_gone_after_a_restart_is_said(
    make: Callable[[], Router], versions: Versions
) -> None:
    async def scenario() -> None:
        await make().apply("m", Traffic(weights={"7": 100}))
        versions.broken["7"] = LoadFailed("models:/m/7 cannot be loaded")
        router = make()
        await router.restore()

        assert router.restoring == {"m": "models:/m/7 cannot be loaded"}
        await router.apply("m", Traffic(weights={"8": 100}))
        assert router.restoring == {}

    asyncio.run(scenario())


def test_an_unknown_model_names_the_known_ones(make: Callable[[], Router]) -> None:
    async def scenario() -> None:
        router = make()
        await router.apply("m", Traffic(weights={"7": 100}))
        with pytest.raises(UnknownModel, match="allowed: m"):
            router.pick("n")

    asyncio.run(scenario())


def test_a_model_of_which_nothing_is_served_is_unknown(make: Callable[[], Router]) -> None:
    async def scenario() -> None:
        router = make()
        await router.apply("m", Traffic(weights={"7": 100}))
        await router.apply("m", Traffic(generation=3))
        await settled()

        assert router.loaded("m") == []
        with pytest.raises(UnknownModel, match="none yet"):
            router.pick("m")

    asyncio.run(scenario())


def test_every_hundred_requests_are_copied_exactly(make: Callable[[], Router]) -> None:
    async def scenario() -> None:
        router = make()
        await router.apply("m", Traffic(weights={"7": 100}, mirrored={"8": 30, "9": 100}))
        copies = [[each.version for each in router.copies("m")] for _ in range(100)]

        assert router.loaded("m") == ["7", "8", "9"]
        assert sum("8" in each for each in copies) == 30
        assert all("8" in "".join("".join(each) for each in copies[i : i + 4]) for i in range(96))
        assert all("9" in each for each in copies)
        assert router.copies("unknown") == []

    asyncio.run(scenario())


def test_an_order_that_comes_too_late_loads_nothing(make: Callable[[], Router], versions: Versions) -> None:
    async def scenario() -> None:
        router = make()
        await router.apply("m", Traffic(weights={"7": 100}, generation=5))
        for late in (4, 5):
            with pytest.raises(Superseded, match="a later order for m has been followed"):
                await router.apply("m", Traffic(weights={"8": 100}, generation=late))

        assert versions.loads == ["7"]
        assert router.traffic("m") == Traffic(weights={"7": 100}, generation=5)

    asyncio.run(scenario())


def test_the_later_generation_wins_though_it_loads_longer(
    make: Callable[[], Router], versions: Versions
) -> None:
    async def scenario() -> None:
        router = make()
        versions.gates["8"] = threading.Event()
        later = asyncio.ensure_future(router.apply("m", Traffic(weights={"8": 100}, generation=2)))
        await settled()
        await router.apply("m", Traffic(generation=1))
        versions.gates["8"].set()
        await later

        assert router.traffic("m") == Traffic(weights={"8": 100}, generation=2)

    asyncio.run(scenario())


def test_a_roll_back_overtakes_the_canary_that_loads(make: Callable[[], Router], versions: Versions) -> None:
    async def scenario() -> None:
        router = make()
        await router.apply("m", Traffic(weights={"7": 100}, generation=1))
        versions.gates["8"] = threading.Event()
        canary = asyncio.ensure_future(router.apply("m", Traffic(weights={"7": 90, "8": 10}, generation=2)))
        await settled()
        await router.apply("m", Traffic(weights={"7": 100}, generation=3))
        versions.gates["8"].set()
        with pytest.raises(Superseded):
            await canary

        assert router.traffic("m") == Traffic(weights={"7": 100}, generation=3)
        assert router.loaded("m") == ["7"]

    asyncio.run(scenario())


def test_a_restart_knows_which_orders_are_late(make: Callable[[], Router]) -> None:
    async def scenario() -> None:
        router = make()
        await router.apply("m", Traffic(weights={"7": 100}, generation=5))
        await router.apply("m", Traffic(weights={"8": 100}))
        router = make()
        with pytest.raises(Superseded):
            await router.apply("m", Traffic(weights={"9": 100}, generation=4))
        await router.restore()

        assert router.traffic("m") == Traffic(weights={"8": 100})
        with pytest.raises(Superseded):
            await router.apply("m", Traffic(weights={"9": 100}, generation=4))
        await router.apply("m", Traffic(weights={"7": 100}, generation=5))
        assert router.traffic("m") == Traffic(weights={"7": 100}, generation=5)

    asyncio.run(scenario())
