"""Turns every ``*.pipeline.yaml`` in this folder into its DAGs, where no DAG bundle can be set."""

from mlretrain_factory import load_airflow_dags  # airflow dag

load_airflow_dags(globals())
