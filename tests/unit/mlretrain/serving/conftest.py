"""Imports that warn about themselves (MLflow's type hints, Starlette's test client), before any test does."""

import importlib
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    importlib.import_module("mlflow.pyfunc")
    importlib.import_module("starlette.testclient")
