"""Turns every ``*.pipeline.yaml`` in this folder into its DAGs, for an Airflow that cannot set a DAG bundle."""

from mlretrain_factory import load_airflow_dags  # airflow dag

load_airflow_dags(globals())
