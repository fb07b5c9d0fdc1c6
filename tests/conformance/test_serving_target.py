"""What every serving target does; the local one is asked over HTTP, with its real server behind it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mlretrain.errors import MlretrainError
from mlretrain.ports import ServingTarget, VersionStats
from mlretrain.serving.app import Settings, create_app
from mlretrain.serving.server import listen
from mlretrain.serving.target import LocalTarget
from tests.fakes.target import FakeTarget


def fake(folder: Path) -> AbstractContextManager[ServingTarget]:
    target: ServingTarget = FakeTarget()
    return nullcontext(target)


@contextmanager
def local(folder: Path) -> Iterator[ServingTarget]:
    import uvicorn

    settings = Settings(tracking_uri="http://registry", log_dir=folder / "log", state_dir=folder / "state")
    app: Any = create_app(settings, load=lambda model, version: _no_answer)
    listening = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield LocalTarget(f"http://127.0.0.1:{listening.getsockname()[1]}")
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


async def _no_answer(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("nothing is asked here")


@pytest.fixture(params=[fake, local], ids=["fake", "local"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServingTarget]:
    start: Callable[[Path], AbstractContextManager[ServingTarget]] = request.param
    with start(tmp_path) as running:
        yield running


def test_nothing_is_served_at_first(target: ServingTarget) -> None:
    assert target.current("m") == {}
    assert target.metrics("m", datetime.now(UTC) - timedelta(hours=1)) == {}


def test_what_was_applied_is_in_force(target: ServingTarget) -> None:
    target.apply("m", {"1": 90, "2": 10})
    target.apply("m", {"1": 90, "2": 10})

    assert target.current("m") == {"1": 90, "2": 10}


def test_a_change_replaces_all_weights(target: ServingTarget) -> None:
    target.apply("m", {"1": 90, "2": 10})
    target.apply("m", {"3": 100})

    assert target.current("m") == {"3": 100}


def test_a_version_without_traffic_is_not_in_force(target: ServingTarget) -> None:
    target.apply("m", {"1": 100, "2": 0})

    assert target.current("m") == {"1": 100}


def test_models_do_not_touch_each_other(target: ServingTarget) -> None:
    target.apply("m", {"1": 100})
    target.apply("other", {"5": 50, "6": 50})
    target.apply("m", {"2": 100})

    assert target.current("m") == {"2": 100}
    assert target.current("other") == {"5": 50, "6": 50}


@pytest.mark.parametrize("weights", [{}, {"1": 99}, {"1": 60, "2": 60}, {"1": 110, "2": -10}])
def test_what_is_no_weights_is_refused_and_changes_nothing(
    target: ServingTarget, weights: dict[str, int]
) -> None:
    target.apply("m", {"1": 100})
    with pytest.raises(MlretrainError):
        target.apply("m", weights)

    assert target.current("m") == {"1": 100}


def test_a_version_that_was_asked_nothing_has_no_requests_and_no_latency(target: ServingTarget) -> None:
    target.apply("m", {"1": 100})
    stats = target.metrics("m", datetime.now(UTC) - timedelta(hours=1))

    assert stats.get("1", VersionStats()) == VersionStats()
