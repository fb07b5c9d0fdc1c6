"""The kernel: what a retraining step does, measures and decides, without Airflow.

Imports only the standard library at import time; heavy libraries are loaded inside the functions that
need them.
"""

__version__ = "0.1.0"
