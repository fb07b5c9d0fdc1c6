"""A real cluster for tests, if there is one: where ``KUBECONFIG`` leads.

Tests that ask for :func:`cluster` are skipped, and say so on the terminal, where no cluster answers. It must
run on this machine: jobs mount the checkout, its environment and its interpreter from the host, each at its
own path, in the image ``python-test:3.11`` (``MLRETRAIN_TEST_IMAGE``), so that they run the code under test.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[1]
IMAGE = os.environ.get("MLRETRAIN_TEST_IMAGE", "python-test:3.11")
CONNECTION = "test_cluster"
COMMAND = (sys.executable, "-P", "-m", "mlretrain.runtime")


@dataclass(frozen=True, slots=True, kw_only=True)
class TestCluster:
    """A namespace of the test's own.

    :param env: what to set in the environment of whatever is to find the connection.
    """

    __test__ = False

    namespace: str
    env: dict[str, str]

    def options(self, *folders: Path, **changes: Any) -> dict[str, Any]:
        """Options of ``KubernetesBackend`` for jobs that run this checkout's code.

        :param folders: further folders of this machine that the jobs see at the same path.
        """
        paths = dict.fromkeys(map(str, (REPOSITORY, sys.prefix, sys.base_prefix, *folders)))
        names = {path: f"host-{number}" for number, path in enumerate(paths)}
        return {
            "conn_id": CONNECTION,
            "namespace": self.namespace,
            "image": IMAGE,
            "command": COMMAND,
            "grace_s": 5.0,
            "volumes": [{"name": name, "hostPath": {"path": path}} for path, name in names.items()],
            "volume_mounts": [{"name": name, "mountPath": path} for path, name in names.items()],
            **changes,
        }


def why_no_cluster() -> str | None:
    """Why no test can run on a cluster; ``None`` if one answers."""
    if not os.environ.get("KUBECONFIG"):
        return "KUBECONFIG is not set"
    try:
        from kubernetes import client, config
        from urllib3.exceptions import HTTPError
    except ImportError:
        return "the Kubernetes provider is not installed"
    try:
        api = config.new_client_from_config()
        api.rest_client.pool_manager.connection_pool_kw["retries"] = False
        client.VersionApi(api).get_code(_request_timeout=5)
    except (client.ApiException, config.ConfigException, HTTPError, OSError) as error:
        return f"no cluster answers at KUBECONFIG: {error}"
    return None


@contextmanager
def test_namespace() -> Iterator[TestCluster]:
    """A new namespace, which is deleted at the end with all that is in it."""
    from kubernetes import client, config

    name = f"mlretrain-test-{secrets.token_hex(4)}"
    extra = {"kube_config_path": os.environ["KUBECONFIG"], "namespace": name}
    connection = json.dumps({"conn_type": "kubernetes", "extra": extra})
    with config.new_client_from_config() as api:
        client.CoreV1Api(api).create_namespace({"metadata": {"name": name}})
        try:
            yield TestCluster(namespace=name, env={f"AIRFLOW_CONN_{CONNECTION.upper()}": connection})
        finally:
            client.CoreV1Api(api).delete_namespace(name)


test_namespace.__test__ = False  # type: ignore[attr-defined]


def skip_loudly(request: pytest.FixtureRequest, reason: str) -> None:
    """Skip, and say so on the terminal: a run without a cluster proves nothing about one."""
    plugins = request.config.pluginmanager
    reporter, capture = plugins.get_plugin("terminalreporter"), plugins.get_plugin("capturemanager")
    if reporter is not None:
        with capture.global_and_fixture_disabled() if capture else nullcontext():
            reporter.write_line(f"\nNOT TESTED ON KUBERNETES: {reason}", red=True, bold=True)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[TestCluster]:
    """The cluster, with its connection in this process's environment."""
    reason = why_no_cluster()
    if reason is not None:
        skip_loudly(request, reason)
    with test_namespace() as found, pytest.MonkeyPatch.context() as patch:
        for name, value in found.env.items():
            patch.setenv(name, value)
        yield found
