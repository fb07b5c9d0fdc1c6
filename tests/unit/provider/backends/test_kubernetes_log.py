"""A growing, rotating log read in pieces: each line once, whatever the pieces."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlretrain_provider.backends.kubernetes_log import Cursor, read

FRAGMENT = 16384
START_S = 1_795_000_000


@dataclass
class Kubelet:
    """A container's log as a kubelet gives it out: entries with a time, long lines in fragments.

    :param old: whether it puts a timestamp before each fragment, as kubelets of 1.20 do.
    """

    old: bool = True
    entries: list[tuple[int, bytes, bool]] = field(default_factory=list)

    def write(self, at_ns: int, line: bytes, *, end: bool = True) -> None:
        while len(line) > FRAGMENT:
            self.entries.append((at_ns, line[:FRAGMENT], False))
            line = line[FRAGMENT:]
        self.entries.append((at_ns, line, end))

    def since(self, moment: str | None, size: int = 1 << 16) -> Iterator[bytes]:
        first = int(datetime.fromisoformat(moment).timestamp()) * 10**9 if moment else 0
        text, new_line = b"", True
        for at_ns, data, is_end in self.entries:
            if at_ns >= first:
                text += (stamp(at_ns) if new_line or self.old else b"") + data + (b"\n" if is_end else b"")
                new_line = is_end
        for begin in range(0, len(text), size):
            yield text[begin : begin + size]

    def text(self) -> bytes:
        return b"".join(data + (b"\n" if is_end else b"") for _, data, is_end in self.entries)


def stamp(at_ns: int) -> bytes:
    """As Go writes it (RFC3339Nano): without the zeros at the end."""
    seconds, nanos = divmod(at_ns, 10**9)
    fraction = f".{nanos:09d}".rstrip("0").rstrip(".")
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}{fraction}Z ".encode()


def at(seconds: float) -> int:
    return START_S * 10**9 + round(seconds * 1e9)


def read_all(
    kubelet: Kubelet, cursor: str = "", *, limit: int = 1 << 20, ended: bool = False
) -> tuple[str, str]:
    """All that there is now, as the operator asks for it: until the cursor stays."""
    found = ""
    while True:
        begin = Cursor.parse(cursor, "pod")
        text, after = read(kubelet.since(begin.since), begin, limit=limit, ended=ended)
        found += text
        if str(after) == cursor:
            return found, cursor
        cursor = str(after)


LINES = st.lists(
    st.tuples(
        st.integers(0, 1_200_000_000),
        st.one_of(
            st.text(st.characters(blacklist_characters="\n", blacklist_categories=["Cs"]), max_size=20),
            st.integers(1, 3).map(lambda size: "é€😀" * 4000 * size),
            st.just("2026-11-21T05:00:00Z is no timestamp of ours"),
        ),
    ),
    max_size=12,
)


@given(LINES, st.sampled_from([40, 20_000, 1 << 20]), st.booleans(), st.randoms(use_true_random=False))
def test_each_line_comes_once(
    lines: list[tuple[int, str]], limit: int, old: bool, chance: random.Random
) -> None:
    kubelet, now, found, cursor = Kubelet(old), at(0), "", ""
    for step_ns, line in lines:
        # A line may bear an earlier time than the one before it: two streams are written side by side.
        now += step_ns
        kubelet.write(now - chance.choice([0, 0, 900]), line.encode())
        if chance.random() < 0.5:
            text, cursor = read_all(kubelet, cursor, limit=limit)
            found += text
    text, cursor = read_all(kubelet, cursor, limit=limit, ended=True)
    assert found + text == kubelet.text().decode()
    assert read_all(kubelet, cursor, ended=True) == ("", cursor)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_pieces_of_any_size(size: int) -> None:
    kubelet = Kubelet()
    for number in range(20):
        kubelet.write(at(number / 7), f"line {number}".encode())
    text, _ = read(kubelet.since(None, size), Cursor("pod"), limit=1 << 20, ended=False)
    assert text.encode() == kubelet.text()


def test_a_burst_within_one_second_comes_in_bounded_pieces() -> None:
    kubelet = Kubelet()
    for number in range(3000):
        kubelet.write(at(0.5), b"%04d %s" % (number, b"x" * 995))
    sizes, cursor = [], Cursor("pod")
    while (piece := read(kubelet.since(cursor.since), cursor, limit=1 << 20, ended=True))[0]:
        sizes.append(len(piece[0]))
        cursor = piece[1]
    assert sum(sizes) == len(kubelet.text())
    assert len(sizes) == 3
    assert max(sizes) <= 1 << 20


def test_lines_that_rotation_has_removed_do_not_hide_new_ones() -> None:
    kubelet = Kubelet()
    for number in range(5):
        kubelet.write(at(0.1 * number), b"old")
    _, cursor = read_all(kubelet)
    kubelet.entries.clear()
    kubelet.write(at(0.6), b"new, in the same second")
    assert read_all(kubelet, cursor)[0] == "new, in the same second\n"


def test_bytes_that_are_no_text_are_shown_and_hide_nothing() -> None:
    kubelet = Kubelet()
    kubelet.write(at(0), b"\xff\xfe")
    kubelet.write(at(0), b"gr\xc3")
    kubelet.write(at(1), b"\x00end")
    assert read_all(kubelet)[0] == "\\xff\\xfe\ngr\\xc3\n\x00end\n"


def test_an_unfinished_line_waits_for_its_end() -> None:
    kubelet = Kubelet()
    kubelet.write(at(0), b"done")
    kubelet.write(at(1), b"half", end=False)
    text, cursor = read_all(kubelet)
    assert text == "done\n"
    assert read_all(kubelet, cursor, ended=True)[0] == "half"


def test_what_the_runtime_says_without_a_timestamp_is_not_the_jobs() -> None:
    chunks = [b"unable to retrieve container logs for containerd://0a1b2c"]
    assert read(chunks, Cursor("pod"), limit=1 << 20, ended=True) == ("", Cursor("pod"))
    chunks = [b"failed to watch\n", stamp(at(0)) + b"mine\n"]
    assert read(chunks, Cursor("pod"), limit=1 << 20, ended=True)[0] == "mine\n"


def test_another_pods_log_is_read_from_its_beginning() -> None:
    kubelet = Kubelet()
    kubelet.write(at(0), b"line")
    _, cursor = read_all(kubelet)
    assert Cursor.parse(cursor, "pod").since is not None
    assert Cursor.parse(cursor, "another") == Cursor("another")
    assert str(Cursor.parse(cursor, "pod")) == cursor


def test_times_of_a_node_with_another_clock() -> None:
    line = b"2026-11-21T07:00:00.25+02:00 hello\n"
    _, cursor = read([line], Cursor("pod"), limit=1 << 20, ended=False)
    assert cursor.at == (1795237200, 250_000_000)
    assert cursor.since == "2026-11-21T04:59:59Z"
