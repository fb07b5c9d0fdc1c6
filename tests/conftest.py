"""Fixtures for every test: an Airflow home of its own, set before anything imports Airflow."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

_HOME = Path(tempfile.mkdtemp(prefix="mlretrain-tests-"))

os.environ.update(
    {
        "AIRFLOW_HOME": str(_HOME / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "True",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{_HOME}/airflow.db",
        "GX_ANALYTICS_ENABLED": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """One flag refreshes every golden file; read the result as a diff. Two are for makers of backends."""
    parser.addoption("--update-golden", action="store_true", help="rewrite golden files")
    parser.addoption("--backend", help="run tests/conformance/test_backend.py against this entry point alone")
    parser.addoption("--backend-options", default="{}", help="its options, a JSON object")
