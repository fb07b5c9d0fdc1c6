"""``mlretrain image`` on a real engine; needs one that answers and a runtime image there.

``MLRETRAIN_TEST_BASE`` names that image; without it, it is the one that ``docker/Dockerfile`` makes.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from mlretrain.errors import ConfigError
from mlretrain_factory.cli import main
from mlretrain_factory.image import default_base, find_engine

pytestmark = pytest.mark.integration

BASE = os.environ.get("MLRETRAIN_TEST_BASE", default_base())
TAG = "mlretrain-test/own-code:1"
LOOK = "import os, shop.train; print(os.getuid(), sorted(os.listdir('/app')))"


@pytest.fixture(scope="module")
def engine() -> str:
    try:
        name = find_engine()
    except ConfigError as problem:
        pytest.skip(f"NOT TESTED, no image was built: {problem}")
    if subprocess.run([name, "image", "inspect", BASE], check=False, capture_output=True).returncode:
        pytest.skip(f"NOT TESTED, no image was built: {name} has no {BASE}")
    return name


def test_the_code_runs_in_its_image_without_rights_and_without_secrets(engine: str, tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "train.py").write_text("def train(ctx): ...\n")
    (tmp_path / ".env").write_text("PASSWORD=hunter2\n")
    try:
        assert main(["image", "--code", str(tmp_path), "--tag", TAG, "--base", BASE]) == 0
        command = [engine, "run", "--rm", "--network", "none", "--entrypoint", "python", TAG, "-c", LOOK]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        assert told == "10001 ['shop']\n"
    finally:
        subprocess.run([engine, "rmi", "--force", TAG], check=False, capture_output=True)
