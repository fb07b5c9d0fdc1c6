"""One YAML file to the DAGs that keep a model fresh.

``from mlretrain_factory import load_airflow_dags`` is all that a loader file needs.
Airflow is imported only then.
"""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["load_airflow_dags"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("mlretrain_factory.to_airflow"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
