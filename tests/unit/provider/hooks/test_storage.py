"""The store's environment, as the Amazon provider understands a connection."""

from __future__ import annotations

import json
import sys

import pytest

from mlretrain.errors import MissingExtra
from mlretrain_provider.hooks.storage import storage_env

pytestmark = pytest.mark.airflow


def test_no_connection_means_the_process_itself() -> None:
    assert storage_env(None) == {}


def test_keys_region_and_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("airflow.providers.amazon")
    extra = {"region_name": "eu-north-1", "endpoint_url": "http://localhost:9000"}
    connection = {"conn_type": "aws", "login": "key", "password": "secret", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_STORE", json.dumps(connection))

    assert storage_env("store") == {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "eu-north-1",
        "AWS_DEFAULT_REGION": "eu-north-1",
        "AWS_ENDPOINT_URL": "http://localhost:9000",
    }


def test_without_the_amazon_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "airflow.providers.amazon.aws.hooks.base_aws", None)

    with pytest.raises(MissingExtra, match=r"airflow-provider-mlretrain\[amazon\]"):
        storage_env("store")
