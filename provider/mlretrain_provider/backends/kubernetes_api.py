"""The few requests to a cluster's API that jobs and servers need, through the connection's hook."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlretrain.errors import ConfigError, MissingExtra, MlretrainError, TransientError

if TYPE_CHECKING:
    from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook

Object = dict[str, Any]

PAUSES_S = (0.5, 1.0, 2.0)
"""Between tries of one request. Longer outages are waited for by whoever asks again."""
_TRY_AGAIN = (408, 429, 500, 502, 503, 504)
_CHUNK = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The objects of jobs in the namespaces of one cluster, as plain JSON.

    Every method raises :class:`~mlretrain.errors.TransientError` if the API does not answer, and
    :class:`~mlretrain.errors.ConfigError` if it refuses.

    :param default_namespace: the connection's namespace.
    """

    hook: KubernetesHook
    default_namespace: str
    sleep: Callable[[float], None] = time.sleep

    def job(self, namespace: str, name: str) -> Object | None:
        """The Job; ``None`` if there is none."""
        return self._ask(self.hook.batch_v1_client.read_namespaced_job, name, namespace, unless=404)

    def create_job(self, namespace: str, manifest: Object, *, dry_run: bool = False) -> Object | None:
        """The Job made; ``None`` if there is one of that name.

        :param dry_run: only say what the server would make.
        """
        create = self.hook.batch_v1_client.create_namespaced_job
        extra = {"dry_run": "All"} if dry_run else {}
        return self._ask(create, namespace, manifest, unless=409, **extra)

    def stop_job(self, namespace: str, name: str, notes: Mapping[str, str]) -> None:
        """Let the Job's time be up, and annotate why; one that is gone is left alone.

        It is one patch, so that neither is ever without the other. The Job stays to be looked at until its
        ttl; the cluster ends its pods, as it does after a timeout.
        """
        annotations = {f"/metadata/annotations/{key.replace('/', '~1')}": text for key, text in notes.items()}
        patch = _additions({**annotations, "/spec/activeDeadlineSeconds": 1})
        self._ask(self.hook.batch_v1_client.patch_namespaced_job, name, namespace, patch, unless=404)

    def delete_job(self, namespace: str, name: str) -> None:
        """Delete the Job; its pods end gracefully after it."""
        delete = self.hook.batch_v1_client.delete_namespaced_job
        self._ask(delete, name, namespace, unless=404, propagation_policy="Background")

    def put_secret(self, namespace: str, manifest: Object) -> None:
        """Create or replace the Secret."""
        api = self.hook.core_v1_client
        if self._ask(api.create_namespaced_secret, namespace, manifest, unless=409) is None:
            self._ask(api.replace_namespaced_secret, manifest["metadata"]["name"], namespace, manifest)

    def own_secret(self, namespace: str, name: str, owner: Object) -> None:
        """Let the Secret go when ``owner`` does; one that is gone is left alone."""
        patch = _additions({"/metadata/ownerReferences": [owner]})
        self._ask(self.hook.core_v1_client.patch_namespaced_secret, name, namespace, patch, unless=404)

    def create_service(self, namespace: str, manifest: Object) -> None:
        """Create the Service unless there is one of that name."""
        self._ask(self.hook.core_v1_client.create_namespaced_service, namespace, manifest, unless=409)

    def pods(self, job: Object) -> list[Object]:
        """The Job's pods: its own, not those of an earlier Job of that name."""
        labels = job["spec"]["selector"]["matchLabels"]
        selector = ",".join(f"{name}={value}" for name, value in labels.items())
        found = self._ask(
            self.hook.core_v1_client.list_namespaced_pod,
            job["metadata"]["namespace"],
            label_selector=selector,
        )
        return list(found["items"]) if found else []

    def warnings(self, namespace: str, uid: str) -> list[Object]:
        """The warnings about one object; none if we may not see them: they only explain."""
        selector = f"involvedObject.uid={uid},type=Warning"
        events = self.hook.core_v1_client.list_namespaced_event
        found = self._ask(events, namespace, field_selector=selector, unless=403)
        return list(found["items"]) if found else []

    @contextmanager
    def log(self, pod: Mapping[str, Any], container: str, since: str | None) -> Iterator[Iterator[bytes]]:
        """The container's log in chunks, with timestamps; empty if there is none (yet, or any more).

        :param since: the instant to begin at, as RFC 3339; the API knows whole seconds.
        """
        metadata = pod["metadata"]
        query = {"container": container, "timestamps": "true", **({"sinceTime": since} if since else {})}
        # The generated method knows no sinceTime.
        answer = self._request(
            self.hook.api_client.call_api,
            "/api/v1/namespaces/{namespace}/pods/{name}/log",
            "GET",
            path_params={"namespace": metadata["namespace"], "name": metadata["name"]},
            query_params=list(query.items()),
            auth_settings=["BearerToken"],
            _preload_content=False,
            unless=(400, 404),
        )
        try:
            yield _chunks(answer) if answer is not None else iter(())
        finally:
            if answer is not None:
                answer.close()

    def rest(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content: str = "application/json",
        unless: tuple[int, ...] = (),
    ) -> Any:
        """What the API answers at ``path``, JSON read; ``None`` if its status is one of ``unless``.

        For what the generated methods do not know: server-side apply, preconditions, custom resources.
        """
        return self._request(
            self.hook.api_client.call_api,
            path,
            method,
            query_params=list((query or {}).items()),
            header_params={"Accept": "application/json", "Content-Type": content},
            body=body,
            response_types_map={200: "object", 201: "object", 202: "object"},
            auth_settings=["BearerToken"],
            _return_http_data_only=True,
            unless=unless,
        )

    def _ask(self, call: Callable[..., Any], *args: Any, unless: int = 0, **kwargs: Any) -> Object | None:
        answer = self._request(call, *args, unless=(unless,), **kwargs)
        found: Object | None = self.hook.api_client.sanitize_for_serialization(answer)
        return found

    def _request(self, call: Callable[..., Any], *args: Any, unless: tuple[int, ...], **kwargs: Any) -> Any:
        """What ``call`` returns, after a few tries; ``None`` if the API's answer is one of ``unless``."""
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        for pause_s in (*PAUSES_S, None):
            try:
                return call(*args, **kwargs)
            except ApiException as error:
                if error.status in unless:
                    return None
                problem = _problem(error.status or 0, _message(error))
            except (HTTPError, OSError) as error:
                problem = TransientError("the cluster's API does not answer", found=str(error))
            if pause_s is None or not problem.retryable:
                raise problem from None
            self.sleep(pause_s)
        return None


def connect(conn_id: str) -> Cluster:
    """The cluster that the Airflow connection ``conn_id`` names.

    :raises ConfigError: there is no such connection, or it leads nowhere.
    :raises MissingExtra: the Kubernetes provider is not installed.
    """
    try:
        from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
        from airflow.sdk.exceptions import AirflowException, AirflowNotFoundException
        from kubernetes.config import ConfigException
    except ImportError:
        raise MissingExtra.of("apache-airflow-providers-cncf-kubernetes", "kubernetes") from None
    remedy = (
        f"Create it: airflow connections add {conn_id} --conn-type kubernetes --conn-extra "
        """'{"kube_config_path": "/path/to/kubeconfig", "namespace": "ml"}'"""
    )
    hook = KubernetesHook(conn_id=conn_id)
    try:
        namespace = hook.get_namespace()
        hook.api_client  # noqa: B018 - reads the credentials
    except AirflowNotFoundException:
        raise ConfigError(f"there is no Airflow connection {conn_id!r}", remedy=remedy) from None
    except (AirflowException, ConfigException, OSError) as error:
        raise ConfigError(
            f"the Airflow connection {conn_id!r} leads to no cluster", found=str(error), remedy=remedy
        ) from None
    return Cluster(hook=hook, default_namespace=namespace or hook.DEFAULT_NAMESPACE)


def _additions(values: Mapping[str, Any]) -> list[Object]:
    """A JSON patch (RFC 6902), which every version of the client sends as such; adding also replaces."""
    return [{"op": "add", "path": path, "value": value} for path, value in values.items()]


def _problem(status: int, message: str) -> MlretrainError:
    """What an answer of the API means for whoever asked."""
    if status in _TRY_AGAIN or "exceeded quota" in message:
        return TransientError("the cluster cannot take the request now", found=f"{status}: {message}")
    match status:
        case 401:
            remedy = "Renew the credentials of the Airflow connection."
        case 403:
            remedy = "Let the connection's user do this in a Role of the namespace, bound by a RoleBinding."
        case 404:
            remedy = "Name a namespace that exists, or create it."
        case _:
            remedy = "Correct the stack's `kubernetes:` or `serving:` settings."
    return ConfigError("the cluster refuses", found=f"{status}: {message}", remedy=remedy)


def _message(error: Any) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (KeyError, TypeError, ValueError):
        return str(error.reason or error.body)


def _chunks(answer: Any) -> Iterator[bytes]:
    from urllib3.exceptions import HTTPError

    try:
        yield from answer.stream(_CHUNK)
    except (HTTPError, OSError) as error:
        raise TransientError("the log broke off", found=str(error)) from None


def unkept(wanted: Mapping[str, Any], kept: Mapping[str, Any]) -> list[str]:
    """The fields of a Job's spec that the server, too old to know them, has dropped."""
    return [
        name for name in ("completionMode", "suspend") if name in wanted and kept.get(name) != wanted[name]
    ]
