"""A cluster policy that lets Airflow's Code tab show the YAML a DAG was made from.

Whoever makes a DAG from a file other than the listed Python file calls :func:`set_source`, which leaves the
path in the DAG object's attribute ``mlretrain_source``. Airflow sets ``fileloc`` after the module has run, so
the policy, which Airflow calls next, is the first place where it can be changed. ``relative_fileloc`` stays
on the listed file, by which workers find the DAG again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.policies import hookimpl

if TYPE_CHECKING:
    from airflow.sdk import DAG

SOURCE = "mlretrain_source"


def set_source(dag: DAG, path: str) -> None:
    """Remember ``path`` as the file that people wrote ``dag`` in."""
    setattr(dag, SOURCE, path)


@hookimpl
def dag_policy(dag: DAG) -> None:
    """Point ``dag.fileloc`` at the file that people wrote."""
    source = getattr(dag, SOURCE, None)
    if source:
        dag.fileloc = str(source)
