"""The measuring steps: validate, profile, train, evaluate. Each runs as one job."""
