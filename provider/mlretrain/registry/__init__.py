"""The model registry and run tracking, spoken to over MLflow's REST API."""
