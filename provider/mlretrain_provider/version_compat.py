"""The Airflow that is installed. The only module that looks at versions."""

from __future__ import annotations

from importlib.metadata import version


def _numbers(text: str) -> tuple[int, int]:
    major, minor = text.split(".")[:2]
    return int(major), int(minor)


AIRFLOW_VERSION = _numbers(version("apache-airflow"))
"""Major and minor version."""

AIRFLOW_V_3_4_PLUS = AIRFLOW_VERSION >= (3, 4)
"""Whether Dag importers can be configured (AIP-85)."""
