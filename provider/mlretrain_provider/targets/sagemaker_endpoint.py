"""One endpoint of SageMaker: looked at, waited for, changed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mlretrain.errors import ConfigError, TransientError
from mlretrain_provider.backends.aws import AwsCaller, error_code, error_message, is_absent, is_taken
from mlretrain_provider.targets.sagemaker_memory import OWNER_TAG, Memory
from mlretrain_provider.targets.sagemaker_names import Names, version_of
from mlretrain_provider.targets.sagemaker_requests import Tags
from mlretrain_provider.targets.sagemaker_state import EndpointState

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

POLL_S = 10.0

# What was just created may be unknown to the next call for a moment:
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateEndpoint.html
_LOOKS = 4
_LOOK_AGAIN_S = 2.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """The endpoint that serves one registered model.

    :param client: boto3's ``sagemaker``.
    :param owner: the value of :data:`OWNER_TAG` on an endpoint that is ours.
    :param ready_timeout_s: how long it may be at work on one change.
    """

    names: Names
    client: Any
    call: AwsCaller
    owner: str
    ready_timeout_s: float
    sleep: Callable[[float], None]

    @property
    def where(self) -> str:
        """The place that errors name."""
        return f"SageMaker endpoint {self.names.endpoint}"

    def look(self) -> EndpointState:
        """Its state now. Raises ``ConfigError`` for an endpoint of that name which is somebody else's."""
        described = self._do("describe_endpoint", EndpointName=self.names.endpoint, unless=is_absent)
        if described is None:
            return self._absent()
        tags = self._tags(described["EndpointArn"])
        if tags.get(OWNER_TAG) != self.owner:
            raise ConfigError(
                "there is an endpoint of that name which serves something else",
                where=self.where,
                found=f"{OWNER_TAG}={tags.get(OWNER_TAG)}",
                allowed=f"{OWNER_TAG}={self.owner}",
                remedy="Set endpoint_prefix in the stack's serving section, or delete that endpoint.",
            )
        return EndpointState.of(described, Memory.of(tags))

    def settled(self) -> EndpointState:
        """Its state once it is at work no more. Raises ``TransientError`` if that takes too long."""
        waited_s, told = 0.0, ""
        while (state := self.look()).at_work:
            if waited_s >= self.ready_timeout_s:
                raise TransientError(
                    f"the endpoint is not ready after {waited_s:.0f} s",
                    where=self.where,
                    found=state.status,
                    remedy="A retry waits on; ready_timeout_s in the stack's serving section is how long.",
                )
            if state.status != told:
                told = state.status
                logger.info("%s: %s", self.where, told)
            self.sleep(POLL_S)
            waited_s += POLL_S
        return state

    def models(self, config: str) -> dict[str, str]:
        """The SageMaker model of each version in an endpoint configuration; empty if it is gone."""
        described = self._do("describe_endpoint_config", EndpointConfigName=config, unless=is_absent) or {}
        variants = [*described.get("ProductionVariants", ()), *described.get("ShadowProductionVariants", ())]
        return {version_of(each["VariantName"]): str(each["ModelName"]) for each in variants}

    def data_uri(self, model: str) -> str | None:
        """Where the package of a SageMaker model is; ``None`` if there is no such model."""
        found = self._do("describe_model", ModelName=model, unless=is_absent)
        return str(found["PrimaryContainer"]["ModelDataUrl"]) if found else None

    def create_model(self, request: Mapping[str, Any]) -> None:
        """Create a SageMaker model, or find it."""
        self._do("create_model", unless=is_taken, **request)

    def create_config(self, request: Mapping[str, Any]) -> None:
        """Create an endpoint configuration, or find it."""
        self._soon("create_endpoint_config", request, unless=is_taken)

    def create(self, config: str, tags: Tags) -> bool:
        """Ask for the endpoint; whether nobody else did before."""
        request = {"EndpointName": self.names.endpoint, "EndpointConfigName": config, "Tags": tags}
        return self._soon("create_endpoint", request, unless=is_taken)

    def update(self, config: str, watched: Mapping[str, Any] | None = None) -> bool:
        """Ask for another configuration; whether it is not at work on something else.

        :param watched: the ``DeploymentConfig``. AWS documents that such updates need the same variant names
            before and after. One that it refuses is asked for again without, and a warning says so.
        """
        request = {"EndpointName": self.names.endpoint, "EndpointConfigName": config}
        if watched:
            accepted = self._do("update_endpoint", **request, **watched, unless=_is_invalid)
            if accepted is not None:
                return True
            logger.warning(
                "%s: AWS does not let alarms call off this update, since it changes the variants", self.where
            )
        return self._soon("update_endpoint", request, unless=is_busy)

    def weigh(self, request: Mapping[str, Any]) -> bool:
        """Ask for other weights; whether it is not at work on something else."""
        return self._do("update_endpoint_weights_and_capacities", unless=is_busy, **request) is not None

    def delete(self) -> None:
        """Delete it, if it is there."""
        self._do("delete_endpoint", EndpointName=self.names.endpoint, unless=is_absent)

    def remember(self, state: EndpointState, memory: Memory) -> EndpointState:
        """Write down what orders are to be measured by from now on."""
        if state.arn and memory != state.memory:
            self._tag(state.arn, memory)
        return replace(state, memory=memory)

    def bequeath(self, state: EndpointState) -> None:
        """Let the configuration in force remember what the endpoint does, which is about to be deleted."""
        for name, arn in self.configs():
            if name == state.config:
                self._tag(arn, state.memory)

    def configs(self) -> Iterator[tuple[str, str]]:
        """The names and ARNs of its configurations."""
        for each in self._pages("list_endpoint_configs", "EndpointConfigs"):
            if self.names.is_config(each["EndpointConfigName"]):
                yield each["EndpointConfigName"], each["EndpointConfigArn"]

    def packaged(self) -> Iterator[str]:
        """The names of its SageMaker models."""
        for each in self._pages("list_models", "Models"):
            if self.names.version_of_model(each["ModelName"]):
                yield each["ModelName"]

    def delete_config(self, config: str) -> None:
        """Delete a configuration, if it is there."""
        self._do("delete_endpoint_config", EndpointConfigName=config, unless=is_absent)

    def delete_model(self, model: str) -> None:
        """Delete a SageMaker model, if it is there."""
        self._do("delete_model", ModelName=model, unless=is_absent)

    def _absent(self) -> EndpointState:
        """The state of an endpoint that is not there, with the memory that the latest one has left."""
        left = [
            EndpointState(arn=arn, config=name, memory=Memory.of(self._tags(arn)))
            for name, arn in self.configs()
        ]
        return max(left, key=lambda state: state.memory.generation, default=EndpointState())

    def _tag(self, arn: str, memory: Memory) -> None:
        tags = [{"Key": key, "Value": value} for key, value in memory.tags.items()]
        self._do("add_tags", ResourceArn=arn, Tags=tags)

    def _tags(self, arn: str) -> dict[str, str]:
        found = (self._do("list_tags", ResourceArn=arn, unless=is_absent) or {}).get("Tags", ())
        return {each["Key"]: each["Value"] for each in found}

    def _pages(self, operation: str, field: str) -> Iterator[Mapping[str, Any]]:
        request: dict[str, Any] = {"NameContains": f"{self.names.endpoint}-"}
        while True:
            page = self._do(operation, **request) or {}
            yield from page.get(field, ())
            if not page.get("NextToken"):
                return
            request["NextToken"] = page["NextToken"]

    def _soon(
        self, operation: str, request: Mapping[str, Any], unless: Callable[[ClientError], bool]
    ) -> bool:
        """Whether AWS accepts, also if it does not know at first what was created a moment ago."""
        for _ in range(_LOOKS):
            unknown = False

            def expected(error: ClientError) -> bool:
                nonlocal unknown
                unknown = is_absent(error)
                return unknown or unless(error)

            if self._do(operation, unless=expected, **request) is not None:
                return True
            if not unknown:
                return False
            self.sleep(_LOOK_AGAIN_S)
        raise TransientError(
            "SageMaker does not know what was created a moment ago, or somebody has deleted it",
            where=self.where,
            found=str(request.get("EndpointConfigName")),
        )

    def _do(
        self, operation: str, *, unless: Callable[[ClientError], bool] | None = None, **request: Any
    ) -> Any | None:
        return self.call(lambda: getattr(self.client, operation)(**request), where=self.where, unless=unless)


def is_busy(error: ClientError) -> bool:
    """Whether the endpoint is at work on another change."""
    words = error_message(error).lower()
    return _is_invalid(error) and ("in-progress" in words or "updating" in words)


def _is_invalid(error: ClientError) -> bool:
    return error_code(error) == "ValidationException"
