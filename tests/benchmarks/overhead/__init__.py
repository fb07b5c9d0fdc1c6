"""What a retraining on a running Airflow costs beside the same work as a plain script."""
