"""The policy that shows the YAML in the Code tab."""

from __future__ import annotations

import pytest
from airflow.sdk import DAG

from mlretrain_provider.plugins.policy import dag_policy, set_source

pytestmark = pytest.mark.airflow


def test_a_dag_made_from_yaml_shows_the_yaml() -> None:
    dag = DAG("flights.retrain")
    set_source(dag, "/dags/flights.pipeline.yaml")

    dag_policy(dag)

    assert dag.fileloc == "/dags/flights.pipeline.yaml"


def test_other_dags_are_left_alone() -> None:
    dag = DAG("other")
    before = dag.fileloc

    dag_policy(dag)

    assert dag.fileloc == before
