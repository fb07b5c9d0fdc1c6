"""What Airflow shows and loads of this provider. A literal: this module imports nothing."""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """The provider's description, as ``airflow.provider_info.schema.json`` wants it."""
    return {
        "package-name": "airflow-provider-mlretrain",
        "name": "ML Retrain",
        "description": "Keeps machine-learning models fresh.",
    }
