# Read by the postgres image when it makes its volume: MLflow's own role and database beside Airflow's.
psql -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d postgres -v password="$MLFLOW_DB_PASSWORD" <<'SQL'
CREATE ROLE mlflow LOGIN PASSWORD :'password';
CREATE DATABASE mlflow OWNER mlflow;
SQL
