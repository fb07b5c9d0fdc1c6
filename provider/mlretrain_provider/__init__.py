"""The Airflow side: operators, sensors, hooks and triggers that wrap the kernel."""
