from pathlib import Path

import pytest

from mlretrain.errors import ConfigError
from mlretrain.ports import Traffic
from mlretrain.serving.state import Pinned, Remembered, TrafficFile

SHADOW = Traffic(weights={"7": 100, "6": 0}, mirrored={"8": 10}, generation=4)


def test_traffic_survives_a_restart(tmp_path: Path) -> None:
    by_hand = Remembered(in_force=Traffic(weights={"1": 100}), ordered=SHADOW)
    file = TrafficFile(tmp_path / "state")
    file.put("m", Remembered(in_force=Traffic(weights={"7": 100})))
    file.put("other", by_hand)
    file.put("m", Remembered(in_force=SHADOW, ordered=SHADOW))

    found = TrafficFile(tmp_path / "state").all()
    assert found == {"m": Remembered(in_force=SHADOW, ordered=SHADOW), "other": by_hand}


def test_nothing_was_served_before_the_first_start(tmp_path: Path) -> None:
    assert TrafficFile(tmp_path).all() == {}


def test_the_first_format_is_read_still(tmp_path: Path) -> None:
    (tmp_path / "weights.json").write_text('{"format": 1, "models": {"m": {"7": 90, "8": 10}}}')

    assert TrafficFile(tmp_path).all() == {"m": Remembered(in_force=Traffic(weights={"7": 90, "8": 10}))}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": 3}',
        '{"format": 1, "models": []}',
        '{"format": 2, "models": {"m": {"7": 1}}}',
    ],
)
def test_a_file_that_is_no_traffic_names_itself(tmp_path: Path, text: str) -> None:
    (tmp_path / "weights.json").write_text(text)

    with pytest.raises(ConfigError, match=r"weights\.json"):
        TrafficFile(tmp_path)


def test_what_is_pinned_stays(tmp_path: Path) -> None:
    pinned = Pinned("m", SHADOW)

    with pytest.raises(ConfigError, match="what it was started with"):
        pinned.put("m", Remembered(in_force=Traffic(weights={"1": 100})))
    assert pinned.all() == {"m": Remembered(in_force=SHADOW)}
