"""What Airflow shows and loads of this provider. A literal: this module imports nothing."""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """The provider's description, as ``airflow.provider_info.schema.json`` wants it."""
    return {
        "package-name": "airflow-provider-mlretrain",
        "name": "ML Retrain",
        "description": "Keeps machine-learning models fresh.",
        "integrations": [
            {
                "integration-name": "ML Retrain",
                "tags": ["software"],
            },
        ],
        "operators": [
            {
                "integration-name": "ML Retrain",
                "python-modules": [
                    "mlretrain_provider.operators.data",
                    "mlretrain_provider.operators.training",
                    "mlretrain_provider.operators.tuning",
                    "mlretrain_provider.operators.registry",
                    "mlretrain_provider.operators.approval",
                    "mlretrain_provider.operators.smoke",
                    "mlretrain_provider.operators.deployment",
                    "mlretrain_provider.operators.profiling",
                    "mlretrain_provider.operators.table",
                    "mlretrain_provider.operators.monitoring",
                    "mlretrain_provider.operators.performance",
                    "mlretrain_provider.operators.retraining",
                    "mlretrain_provider.operators.scoring",
                    "mlretrain_provider.operators.record",
                ],
            }
        ],
        "sensors": [
            {
                "integration-name": "ML Retrain",
                "python-modules": [
                    "mlretrain_provider.sensors.data",
                    "mlretrain_provider.sensors.deployment",
                    "mlretrain_provider.sensors.drift",
                    "mlretrain_provider.sensors.model_alias",
                ],
            }
        ],
        "hooks": [
            {
                "integration-name": "ML Retrain",
                "python-modules": [
                    "mlretrain_provider.hooks.database",
                    "mlretrain_provider.hooks.mlflow",
                    "mlretrain_provider.hooks.model_server",
                    "mlretrain_provider.hooks.storage",
                ],
            }
        ],
        "triggers": [
            {
                "integration-name": "ML Retrain",
                "python-modules": [
                    "mlretrain_provider.triggers.deployment",
                    "mlretrain_provider.triggers.job",
                    "mlretrain_provider.triggers.model_alias",
                ],
            }
        ],
        "bundles": [
            {"integration-name": "ML Retrain", "python-modules": ["mlretrain_provider.bundles.yaml"]},
        ],
        "notifications": [
            "mlretrain_provider.notifications.email.EmailNotifier",
            "mlretrain_provider.notifications.log.LogNotifier",
            "mlretrain_provider.notifications.slack.SlackNotifier",
            "mlretrain_provider.notifications.webhook.WebhookNotifier",
        ],
        "asset-uris": [
            {
                "schemes": ["x-mlretrain"],
                "handler": "mlretrain_provider.assets.as_it_is",
                "to_openlineage_converter": "mlretrain_provider.lineage.asset_place",
            },
        ],
        "extra-links": [
            "mlretrain_provider.links.MLflowRunLink",
            "mlretrain_provider.links.ModelVersionLink",
            "mlretrain_provider.links.DataDocsLink",
            "mlretrain_provider.links.DriftReportLink",
            "mlretrain_provider.links.PerformanceReportLink",
            "mlretrain_provider.links.DecisionLink",
            "mlretrain_provider.links.TrialsLink",
        ],
        "plugins": [
            {"name": "mlretrain", "plugin-class": "mlretrain_provider.plugins.ui.MlretrainPlugin"},
        ],
        "connection-types": [
            {
                "connection-type": "mlflow",
                "hook-class-name": "mlretrain_provider.hooks.mlflow.MLflowHook",
                "hook-name": "MLflow",
                "ui-field-behaviour": {
                    "hidden-fields": ["schema"],
                    "relabeling": {"host": "Tracking URI"},
                    "placeholders": {"host": "http://localhost:5000", "port": "if the URI does not say it"},
                },
                "conn-fields": {
                    "token": {
                        "label": "Token",
                        "description": "Bearer token; goes before login and password.",
                        "schema": {"type": ["string", "null"], "format": "password"},
                    },
                    "experiment": {
                        "label": "Default experiment",
                        "description": "For hand-written DAGs; pipelines have one of their own name.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "timeout_s": {
                        "label": "Timeout",
                        "description": "Longest wait for one answer, in seconds.",
                        "schema": {"type": ["integer", "null"], "default": 30, "minimum": 1},
                    },
                },
            },
            {
                "connection-type": "mlretrain_model_server",
                "hook-class-name": "mlretrain_provider.hooks.model_server.ModelServerHook",
                "hook-name": "ML Retrain model server",
                "ui-field-behaviour": {
                    "hidden-fields": ["schema", "login", "extra"],
                    "relabeling": {"password": "Token"},
                    "placeholders": {
                        "host": "localhost",
                        "port": "5002",
                        "password": "the server's MLRETRAIN_SERVE_TOKEN, if it has one",
                    },
                },
            },
        ],
        "config": {
            "mlretrain": {
                "description": "Settings of the ML Retrain provider.",
                "options": {
                    "artifact_roots": {
                        "description": (
                            "Artifact stores whose Data Docs and drift reports the API server shows below "
                            "/mlretrain to everybody who is logged in: URIs, separated by commas. "
                            "Empty: none."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "s3://ml-artifacts,file:///opt/artifacts",
                        "default": "",
                    },
                    "policies": {
                        "description": (
                            "Folder of the platform's policies, *.yaml, which hold for every pipeline beside "
                            "those in folders `policies` above it. Empty: none. "
                            "One that is not there refuses every pipeline."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "/opt/airflow/policies",
                        "default": "",
                    },
                },
            },
        },
    }
