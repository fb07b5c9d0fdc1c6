"""A bar for people, lines for logs."""

from __future__ import annotations

import io

import pytest

from mlretrain_factory.simulation.progress import Progress


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("mlretrain_factory.simulation.progress.time.monotonic", lambda: now[0])
    return now


def test_a_log_gets_a_line_every_few_seconds_and_the_last(clock: list[float]) -> None:
    log = io.StringIO()
    with Progress(log) as progress:
        for done in range(1, 5):
            progress(done, 4)
            clock[0] += 6

    assert log.getvalue().splitlines() == [
        "1 of 4 windows, 0 s, 0 s left",
        "3 of 4 windows, 12 s, 4 s left",
        "4 of 4 windows, 18 s",
    ]


def test_a_terminal_gets_one_line_that_is_gone_at_the_end(clock: list[float]) -> None:
    terminal = Terminal()
    with Progress(terminal) as progress:
        progress.say("reading")
        progress(1, 2)

    text = terminal.getvalue()
    assert "\n" not in text
    assert "█" * 15 + "░" * 15 in text
    assert text.endswith("\r\x1b[K")
