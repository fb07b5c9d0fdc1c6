"""The serving target ``sagemaker``: one endpoint per registered model, one variant per version."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from typing import Any

from mlretrain.errors import MissingExtra, MlretrainError, TransientError
from mlretrain.ledger import Ledger
from mlretrain.ports import Traffic, VersionStats
from mlretrain.runtime.store import open_store
from mlretrain.serving.traffic import check_traffic, refuse_late
from mlretrain_provider.backends.aws import AwsCaller
from mlretrain_provider.backends.sagemaker_tags import tags_of
from mlretrain_provider.hooks.storage import storage_env
from mlretrain_provider.targets import Surroundings
from mlretrain_provider.targets.sagemaker_endpoint import Endpoint
from mlretrain_provider.targets.sagemaker_memory import Memory
from mlretrain_provider.targets.sagemaker_metrics import utc_now, version_stats
from mlretrain_provider.targets.sagemaker_models import SageMakerModels
from mlretrain_provider.targets.sagemaker_names import Names
from mlretrain_provider.targets.sagemaker_options import EndpointOptions, check_order
from mlretrain_provider.targets.sagemaker_package import MlflowModels, ModelSource
from mlretrain_provider.targets.sagemaker_requests import Tags, config_request, watched, weights_request
from mlretrain_provider.targets.sagemaker_state import ABSENT, EndpointState

_ROUNDS = 3
"""How often an order is begun anew because somebody else's change came in between."""

logger = logging.getLogger(__name__)


class SageMakerTarget:
    """A :class:`~mlretrain.ports.ServingTarget`: real-time endpoints, which answer ``InvokeEndpoint``.

    A version stays in the image that it was brought up with as long as it is served; new settings are for
    versions that come. Orders are fenced by a tag of the endpoint and the names of its configurations, which
    are looked at before every change: that is not atomic. An older order that has looked before the younger
    one wrote its tag, and calls after it, is carried out still.

    :param conn_id: an Amazon connection: credentials, assumed role, region, ``endpoint_url``.
    :param role_arn: the role of the containers; it reads the packages and pulls the image.
    :param image: in Amazon ECR; it serves an MLflow model from ``/opt/ml/model`` on port 8080.
    :param instance_type: of all variants, such as ``ml.m5.large``.
    :param instance_count: of each variant, standby and mirrored ones too.
    :param endpoint_prefix: before the model's name in the endpoint's.
    :param model_s3_uri: the folder for packages; none: ``<artifacts_uri>/<pipeline>/sagemaker``.
    :param kms_key: encrypts packages; ``volume_kms_key``: the machines' disks.
    :param subnets: with ``security_group_ids``, the VPC that containers are in.
    :param network_isolation: containers reach nothing; the image must then bring the model's environment.
    :param env: environment variables of the containers, for everybody to read.
    :param alarms: names of CloudWatch alarms that call an update off, where AWS lets them.
    :param alarm_wait_s: how long they are watched once all requests go to the new machines.
    :param ready_timeout_s: the longest wait for one change of an endpoint.
    :param startup_timeout_s: how long a container may take before it answers ``/ping``; none: as AWS has it.
    """

    def __init__(
        self,
        *,
        conn_id: str | None = None,
        around: Surroundings,
        role_arn: str,
        image: str,
        instance_type: str,
        instance_count: int = 1,
        endpoint_prefix: str = "",
        model_s3_uri: str | None = None,
        kms_key: str | None = None,
        volume_kms_key: str | None = None,
        subnets: Sequence[str] = (),
        security_group_ids: Sequence[str] = (),
        network_isolation: bool = False,
        env: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        alarms: Sequence[str] = (),
        alarm_wait_s: float = 300.0,
        ready_timeout_s: float = 3600.0,
        startup_timeout_s: float | None = None,
        source: ModelSource | None = None,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._around = around
        self._options = EndpointOptions(
            role_arn=role_arn,
            image=image,
            instance_type=instance_type,
            instance_count=instance_count,
            endpoint_prefix=endpoint_prefix,
            model_s3_uri=model_s3_uri or f"{around.artifacts_uri.rstrip('/')}/{around.pipeline}/sagemaker",
            kms_key=kms_key,
            volume_kms_key=volume_kms_key,
            subnets=tuple(subnets),
            security_group_ids=tuple(security_group_ids),
            network_isolation=network_isolation,
            alarms=tuple(alarms),
            alarm_wait_s=alarm_wait_s,
            startup_timeout_s=startup_timeout_s,
            env=dict(env or {}),
            tags=dict(tags or {}),
        )
        self._call = AwsCaller(conn_id=conn_id or "aws_default", sleep=sleep, jitter=jitter)
        self._storage_conn_id = self._call.conn_id if model_s3_uri else around.storage_conn_id
        self._source: ModelSource = source or MlflowModels(around=around)
        self._ready_timeout_s = ready_timeout_s
        self._now = now

    def apply(self, model: str, traffic: Traffic) -> None:
        """Serve exactly this; returns once it is so. Found half done, it is taken up where it stands.

        :raises Superseded: a later generation is in force.
        :raises InvalidInput: an order or a version that cannot be served, or an update that SageMaker has
            taken back; what was served is served still.
        :raises ConfigError: AWS refuses: credentials, permissions, roles, parameters.
        :raises TransientError: no machines, no answer, or not ready in time.
        """
        self._options.check()
        order = check_traffic(traffic)
        check_order(order)
        endpoint = self._endpoint(model)
        models = self._models(endpoint, model)
        for _ in range(_ROUNDS):
            state = self._at_once(models, self._fenced(endpoint, model, order), order)
            asked = False
            if not state.is_serving(order):
                asked = self._ask(models, state, order)
                state = self._fenced(endpoint, model, order)
            if state.is_serving(order):
                done = replace(_accepted(state, order), in_force=order.generation)
                return self._tidy(models, endpoint.remember(state, done))
            if asked:
                raise state.failure(endpoint.where)
        raise TransientError("somebody else keeps changing the endpoint", where=endpoint.where)

    def current(self, model: str) -> Traffic:
        """What DescribeEndpoint says, in percent; empty while it is being created or has failed."""
        return self._endpoint(model).look().traffic

    def metrics(self, model: str, since: datetime) -> dict[str, VersionStats]:
        """What CloudWatch has counted for the versions that are there now; see :func:`version_stats`."""
        traffic = self.current(model)
        versions = sorted({*traffic.weights, *traffic.mirrored})
        endpoint = Names.of(model, self._options.endpoint_prefix).endpoint
        return version_stats(self._client("cloudwatch"), self._call, endpoint, versions, since, self._now())

    def _fenced(self, endpoint: Endpoint, model: str, order: Traffic) -> EndpointState:
        """The state of an endpoint at rest. Raises ``Superseded`` for an order that comes too late."""
        state = endpoint.settled()
        refuse_late(model, order, state.memory.last)
        return state

    def _at_once(self, models: SageMakerModels, state: EndpointState, order: Traffic) -> EndpointState:
        """The state once requests have moved as far as they can without new machines.

        Whoever is to leave serves nothing within moments, not only once an update has taken its machines.
        """
        weights = state.without_leaving(order)
        if weights is None:
            return state
        endpoint = models.endpoint
        endpoint.remember(state, _accepted(state, order))
        endpoint.weigh(weights_request(endpoint.names.endpoint, weights))
        return self._fenced(endpoint, models.model, order)

    def _ask(self, models: SageMakerModels, state: EndpointState, order: Traffic) -> bool:
        """Whether SageMaker has taken the order; it does not while it is at work on another."""
        endpoint, model = models.endpoint, models.model
        if not order.weights:
            endpoint.bequeath(endpoint.remember(state, _accepted(state, order)))
            endpoint.delete()
            return True
        if state.differs_in_weights_alone(order):
            endpoint.remember(state, _accepted(state, order))
            return endpoint.weigh(weights_request(endpoint.names.endpoint, order.weights))
        config = self._config(models, state, order)
        state = self._fenced(endpoint, model, order)  # packing takes minutes, in which others may have come
        if state.status == "Failed":  # deleting it is all that SageMaker lets anybody do with it
            endpoint.delete()
            state = self._fenced(endpoint, model, order)
        accepted = _accepted(state, order)
        if state.status == ABSENT:
            return endpoint.create(config, self._tags(model, accepted))
        endpoint.remember(state, accepted)
        return endpoint.update(config, watched(self._options) if self._options.alarms else None)

    def _config(self, models: SageMakerModels, state: EndpointState, order: Traffic) -> str:
        """The endpoint configuration that says so, made unless it is there, with all that it needs."""
        endpoint = models.endpoint
        served = endpoint.models(state.config) if state.traffic.weights else {}
        names = {
            version: models.as_served(served.get(version)) or models.named(version)
            for version in (*order.weights, *order.mirrored)
        }
        tags = self._tags(models.model, _accepted(state, order))
        request = config_request(endpoint.names, order, names, self._options, tags)
        endpoint.create_config(request)
        return str(request["EndpointConfigName"])

    def _tidy(self, models: SageMakerModels, state: EndpointState) -> None:
        """Delete what nobody needs: configurations of older orders, models that lead nowhere back.

        What stands against it is logged: the order itself has been carried out.
        """
        endpoint = models.endpoint
        try:
            for config, _ in list(endpoint.configs()):
                if config != state.config and endpoint.names.generation(config) <= state.memory.generation:
                    endpoint.delete_config(config)
            kept = set(endpoint.models(state.config).values())
            needed = {version.lower() for version in self._needed()}
            for name in list(endpoint.packaged()):
                if name not in kept and endpoint.names.version_of_model(name) not in needed:
                    models.delete(name)
        except MlretrainError as error:
            logger.warning("%s: not tidied up: %s", endpoint.where, error)

    def _needed(self) -> set[str]:
        """The champion, the one to go back to, and whoever is to be served by the ledger's last word."""
        env = storage_env(self._around.storage_conn_id) or None
        standing = Ledger(open_store(self._around.artifacts_uri, env), self._around.pipeline).standing()
        return {*standing.line[-2:], *standing.traffic.weights, *standing.traffic.mirrored}

    def _models(self, endpoint: Endpoint, model: str) -> SageMakerModels:
        return SageMakerModels(
            endpoint=endpoint,
            model=model,
            options=self._options,
            source=self._source,
            labels=self._labels(model),
            storage_conn_id=self._storage_conn_id,
        )

    def _endpoint(self, model: str) -> Endpoint:
        return Endpoint(
            names=Names.of(model, self._options.endpoint_prefix),
            client=self._client("sagemaker"),
            call=self._call,
            owner=tags_of({"model": model}, {})[0]["Value"],
            ready_timeout_s=self._ready_timeout_s,
            sleep=self._call.sleep,
        )

    def _tags(self, model: str, memory: Memory) -> Tags:
        own = tags_of(self._labels(model), self._options.tags)
        return [*own, *({"Key": key, "Value": value} for key, value in memory.tags.items())]

    def _labels(self, model: str) -> dict[str, str]:
        return {"pipeline": self._around.pipeline, "model": model}

    def _client(self, service: str) -> Any:
        return self._clients(service)

    @cached_property
    def _clients(self) -> Callable[[str], Any]:
        """boto3's clients of the connection, each made once."""
        try:
            from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook
        except ImportError:
            raise MissingExtra.of("apache-airflow-providers-amazon", "amazon") from None
        hooks: dict[str, Any] = {}

        def client(service: str) -> Any:
            if service not in hooks:
                hook: Any = AwsGenericHook
                hooks[service] = hook(aws_conn_id=self._call.conn_id, client_type=service)
            return hooks[service].conn

        return client


def _accepted(state: EndpointState, order: Traffic) -> Memory:
    """What is remembered before an order is carried out; a person's moves no fence."""
    return replace(state.memory, last=order) if order.generation else state.memory
