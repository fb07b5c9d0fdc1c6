"""An image that lacks what the pipeline requires says so, all at once."""

from __future__ import annotations

import pytest

from mlretrain.errors import ConfigError
from mlretrain.runtime.requirements import REQUIREMENTS, check_requirements


def test_nothing_required_is_nothing_missing() -> None:
    check_requirements({})


def test_what_is_there_in_the_right_version_passes() -> None:
    check_requirements(
        {REQUIREMENTS: "PyYAML>=5\nabsent==1; python_version < '3'\nthing @ https://example.org/thing.whl"}
    )


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        check_requirements({REQUIREMENTS: "PyYAML==1.*\nno-such-package"})
    assert "PyYAML==1.* (" in str(error.value)
    assert "no-such-package (not installed)" in str(error.value)
    assert "mlretrain image" in str(error.value)
