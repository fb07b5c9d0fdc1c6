from pathlib import Path

import pytest

from mlretrain.errors import ConfigError
from mlretrain.serving.state import WeightFile


def test_weights_survive_a_restart(tmp_path: Path) -> None:
    file = WeightFile(tmp_path / "state")
    file.put("m", {"7": 100})
    file.put("other", {"1": 100})
    file.put("m", {"7": 90, "8": 10})

    assert WeightFile(tmp_path / "state").all() == {"m": {"7": 90, "8": 10}, "other": {"1": 100}}


def test_nothing_was_served_before_the_first_start(tmp_path: Path) -> None:
    assert WeightFile(tmp_path).all() == {}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "models": []}'])
def test_a_file_that_is_no_weights_names_itself(tmp_path: Path, text: str) -> None:
    (tmp_path / "weights.json").write_text(text)

    with pytest.raises(ConfigError, match=r"weights\.json"):
        WeightFile(tmp_path)
