"""Fixtures of the data tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures_data import Write, writer


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes files below the test's folder."""
    return writer(tmp_path)
