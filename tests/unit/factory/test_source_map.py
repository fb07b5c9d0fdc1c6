from __future__ import annotations

from pathlib import Path

import pytest

from mlretrain_factory.errors import SpecErrors
from mlretrain_factory.source_map import MAX_BYTES, parse, read_source


def test_scalars_follow_yaml_1_2() -> None:
    words = "on: no, off: yes, none: ~, date: 2013-01-01, time: 12:30, quoted: '1'"
    numbers = "n: 1e-3, hex: 0x1F, octal: 0o17"
    assert parse(f"{{{words}, {numbers}}}", "f").data == {
        "on": "no",
        "off": "yes",
        "n": 0.001,
        "hex": 31,
        "octal": 15,
        "none": None,
        "date": "2013-01-01",
        "time": "12:30",
        "quoted": "1",
    }


def test_every_value_knows_its_place() -> None:
    node = parse("a:\n  b: [x, {c: 3}]\n", "f").get("a", "b", 1, "c")
    assert node is not None
    assert (node.value, str(node.position), str(node.key)) == (3, "f:2:14", "f:2:11")


def test_what_is_not_there_is_none() -> None:
    node = parse("a: [x]\n", "f")
    assert node.get("a", 3) is None
    assert node.get("a", 0, "b") is None


def test_a_small_alias_repeats_its_value() -> None:
    assert parse("a: &x [1, 2]\nb: *x\n", "f").data == {"a": [1, 2], "b": [1, 2]}


def test_numbers_beyond_json_stay_text() -> None:
    assert parse(f"{{a: .inf, b: 1e999, c: {'9' * 5000}}}", "f").data == {
        "a": ".inf",
        "b": "1e999",
        "c": "9" * 5000,
    }


@pytest.mark.parametrize(
    ("text", "place"),
    [("a: &x [*x]\n", "f:1:8"), ("? [a]\n: 1\n", "f:1:3"), ("!k a: 1\n", "f:1:1"), ("<<: {a: 1}\n", "f:1:1")],
)
def test_what_is_not_plain_data_is_refused_at_its_place(text: str, place: str) -> None:
    with pytest.raises(SpecErrors, match=f"^{place}: "):
        parse(text, "f")


def test_a_huge_file_is_not_parsed(tmp_path: Path) -> None:
    file = tmp_path / "huge.pipeline.yaml"
    file.write_text("#" * (MAX_BYTES + 1))
    with pytest.raises(SpecErrors, match="too large"):
        read_source(file)


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("a: 1\n")
    assert read_source(file).data == {"a": 1}
    file.write_text("a: 22\n")
    assert read_source(file).data == {"a": 22}
