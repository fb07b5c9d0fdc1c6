"""Hooks: Airflow connections turned into kernel ports."""
