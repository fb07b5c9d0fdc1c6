"""What Airflow discovers by entry point: UI plugin and cluster policy."""
