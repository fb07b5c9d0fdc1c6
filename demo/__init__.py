"""The demo: a year of real flights, kept fresh by Airflow, MLflow and the model server on one machine."""
