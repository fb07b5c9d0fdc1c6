"""Loads the factory and the operators once, in the process that Airflow's workers are forked from.

Airflow imports the modules of the ``airflow.policy`` entry points when a process starts. A worker forks for
each task, so what is imported here is not imported again before every task: 0.1 s, a third of a small task.
"""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module

with suppress(
    ImportError
):  # a broken installation shows in the pipelines' import errors, not in all of Airflow
    from mlretrain_factory.to_airflow import OPERATORS

    for _operator in OPERATORS.values():
        import_module(_operator.partition(":")[0])
