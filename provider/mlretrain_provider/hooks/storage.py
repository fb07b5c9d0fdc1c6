"""The environment that opens an artifact store, from an AWS connection."""

from __future__ import annotations

from typing import Any

from mlretrain.errors import MissingExtra


def storage_env(conn_id: str | None) -> dict[str, str]:
    """AWS variables of the connection ``conn_id``, for the store and jobs; none: ``{}``, the process's own.

    Everything that the Amazon provider understands counts: keys, profiles, assumed roles, ``endpoint_url``.
    Raises :class:`~mlretrain.errors.MissingExtra` without the Amazon provider.
    """
    if conn_id is None:
        return {}
    try:
        from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook
    except ImportError:
        raise MissingExtra.of("apache-airflow-providers-amazon", "amazon") from None

    hook: AwsGenericHook[Any] = AwsGenericHook(aws_conn_id=conn_id, client_type="s3")
    session = hook.get_session()
    credentials = session.get_credentials()
    frozen = credentials.get_frozen_credentials() if credentials else None
    found = {
        "AWS_ACCESS_KEY_ID": frozen.access_key if frozen else None,
        "AWS_SECRET_ACCESS_KEY": frozen.secret_key if frozen else None,
        "AWS_SESSION_TOKEN": frozen.token if frozen else None,
        "AWS_REGION": session.region_name,
        "AWS_DEFAULT_REGION": session.region_name,
        "AWS_ENDPOINT_URL": hook.conn_config.get_service_endpoint_url("s3"),
    }
    return {key: value for key, value in found.items() if value}
