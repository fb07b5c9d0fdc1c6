"""What SageMaker says of an endpoint, in the words of traffic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlretrain.errors import InvalidInput, MlretrainError, TransientError
from mlretrain.ports import Traffic
from mlretrain_provider.targets.sagemaker_memory import Memory
from mlretrain_provider.targets.sagemaker_names import version_of

ABSENT = "Absent"
"""Our own word for an endpoint that is not there; all others are SageMaker's."""

_AT_WORK = {"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"}
_ANSWERS = {"InService", "Updating", "SystemUpdating", "RollingBack", "UpdateRollbackFailed"}
_NO_CAPACITY = ("capacity", "resourcelimitexceeded", "unable to provision", "service limit", "quota")


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointState:
    """One look at an endpoint.

    :param arn: where it keeps its memory; without an endpoint that is one of its configurations.
    :param config: the endpoint configuration in force.
    :param reason: why the last change failed.
    """

    status: str = ABSENT
    arn: str = ""
    config: str = ""
    weights: Mapping[str, int] = field(default_factory=dict)
    mirrored: Mapping[str, int] = field(default_factory=dict)
    memory: Memory = field(default_factory=Memory)
    reason: str = ""

    @classmethod
    def of(cls, described: Mapping[str, Any], memory: Memory) -> EndpointState:
        """The state in an answer of DescribeEndpoint."""
        status = str(described["EndpointStatus"])
        production = _weights(described.get("ProductionVariants", ()))
        shadow = _weights(described.get("ShadowProductionVariants", ()))
        answers = status in _ANSWERS
        return cls(
            status=status,
            arn=str(described["EndpointArn"]),
            config=str(described.get("EndpointConfigName", "")),
            weights=percents(production) if answers else {},
            mirrored=_shares(shadow, sum(production.values())) if answers else {},
            memory=memory,
            reason=str(described.get("FailureReason") or ""),
        )

    @property
    def at_work(self) -> bool:
        """Whether it takes no order now."""
        return self.status in _AT_WORK

    @property
    def traffic(self) -> Traffic:
        """Who answers now."""
        return Traffic(weights=self.weights, mirrored=self.mirrored, generation=self.memory.in_force)

    def is_serving(self, traffic: Traffic) -> bool:
        """Whether the order has been carried out."""
        return self.status == ("InService" if traffic.weights else ABSENT) and self.traffic.same(traffic)

    def differs_in_weights_alone(self, traffic: Traffic) -> bool:
        """Whether the variants that are there can carry out the order."""
        return (
            self.status == "InService"
            and set(self.weights) == set(traffic.weights)
            and dict(self.mirrored) == dict(traffic.mirrored)
        )

    def without_leaving(self, traffic: Traffic) -> dict[str, int] | None:
        """The weights with which those who stay answer all requests; ``None`` if it takes no such step.

        That is one before variants are taken away, where all that are to answer are there already.
        """
        leaving = dict.fromkeys(set(self.weights) - set(traffic.weights), 0)
        weights = {**traffic.weights, **leaving}
        if self.status != "InService" or not leaving or not traffic.weights:
            return None
        return weights if set(weights) == set(self.weights) and weights != dict(self.weights) else None

    def failure(self, where: str) -> MlretrainError:
        """Why an order that was accepted has not been carried out."""
        reason = self.reason or "SageMaker gives no reason"
        if any(each in reason.lower() for each in _NO_CAPACITY):
            return TransientError(
                "AWS has no such machines for now",
                where=where,
                found=reason,
                remedy="Wait, take another instance_type, or ask for more in Service Quotas.",
            )
        if self.status == "UpdateRollbackFailed":
            return TransientError(
                "the update failed, and the way back too: the endpoint serves a mixture of old and new",
                where=where,
                found=f"UpdateRollbackFailed: {reason}",
                remedy="Retry, or roll back: the next order replaces all variants.",
            )
        if self.weights:
            return InvalidInput(
                "SageMaker went back to what it served before",
                where=where,
                found=reason,
                remedy=f"It serves {dict(self.weights)} still. {_LOOK}",
            )
        return InvalidInput(
            "the endpoint could not be brought up",
            where=where,
            found=f"{self.status}: {reason}",
            remedy=_LOOK,
        )


_LOOK = "The container's own words are in CloudWatch, /aws/sagemaker/Endpoints/<endpoint>."


def percents(weights: Mapping[str, float]) -> dict[str, int]:
    """Weights of any sum as whole percentages that sum to 100; all 0 where there is no weight."""
    total = sum(weights.values())
    if not total:
        return dict.fromkeys(weights, 0)
    exact = {version: 100 * weight / total for version, weight in weights.items()}
    found = {version: int(share) for version, share in exact.items()}
    by_remainder = sorted(exact, key=lambda version: (found[version] - exact[version], version))
    for version in by_remainder[: 100 - sum(found.values())]:
        found[version] += 1
    return found


def _weights(variants: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    # Weights are 32-bit floats at AWS: 0.1 comes back as 0.10000000149011612.
    return {version_of(each["VariantName"]): round(each.get("CurrentWeight") or 0.0, 6) for each in variants}


def _shares(shadows: Mapping[str, float], total: float) -> dict[str, int]:
    return {
        version: min(100, round(100 * weight / total)) if total else 0 for version, weight in shadows.items()
    }
