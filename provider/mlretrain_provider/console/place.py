"""Where a pipeline's state is, for a command outside Airflow."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mlretrain.errors import MissingExtra
from mlretrain.ledger import Ledger
from mlretrain.runtime.store import open_store, read_uri
from mlretrain_provider.hooks.storage import storage_env

if TYPE_CHECKING:
    from mlretrain.ports import ArtifactStore, ModelRegistry, ServingTarget


@dataclass(frozen=True, kw_only=True)
class Place:
    """What a pipeline's file and stack say of where everything is; connections are looked up when used.

    A ledger in a folder, or in a bucket that the environment opens, needs no Airflow.

    :param serving: where models are served, ``{target, conn_id, …}``; none: nowhere.
    """

    pipeline: str
    artifacts_uri: str
    mlflow_conn_id: str
    storage_conn_id: str | None = None
    serving: Mapping[str, Any] | None = None

    @cached_property
    def storage_env(self) -> dict[str, str] | None:
        """The variables that open the store; ``None``: the process's own."""
        if self.storage_conn_id is None:
            return None
        ask_airflow()
        return storage_env(self.storage_conn_id) or None

    @cached_property
    def store(self) -> ArtifactStore:
        """The artifact store."""
        return open_store(self.artifacts_uri, self.storage_env)

    def read(self, uri: str) -> bytes:
        """The bytes of an evidence file."""
        return read_uri(uri, self.storage_env)

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger, to be read."""
        return Ledger(self.store, self.pipeline)

    @cached_property
    def registry(self) -> ModelRegistry:
        """The model registry."""
        ask_airflow()
        from mlretrain_provider.hooks.mlflow import MLflowHook

        return MLflowHook(self.mlflow_conn_id).registry()

    @cached_property
    def target(self) -> ServingTarget | None:
        """Where models are served."""
        if self.serving is None:
            return None
        ask_airflow()
        from mlretrain_provider.targets import Surroundings, open_target

        around = Surroundings(
            pipeline=self.pipeline,
            artifacts_uri=self.artifacts_uri,
            mlflow_conn_id=self.mlflow_conn_id,
            storage_conn_id=self.storage_conn_id,
        )
        return open_target(self.serving, around)


def ask_airflow() -> None:
    """Have Airflow look for connections in its database too, as its own commands do, beside the environment
    and secrets backends; outside a task it would not.

    See ``ensure_secrets_backend_loaded`` of ``airflow.sdk.execution_time.supervisor``.

    :raises MissingExtra: Airflow is not installed.
    """
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    try:
        import airflow.sdk  # noqa: F401
    except ImportError:
        raise MissingExtra.of("apache-airflow", "airflow") from None
