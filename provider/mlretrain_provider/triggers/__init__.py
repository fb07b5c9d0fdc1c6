"""Triggers for the deferrable operators and sensors."""

SHORTEST_POLL_S = 10.0
"""Airflow 3.3 fails tasks whose trigger fires within seconds of the deferral (apache/airflow#72716)."""
