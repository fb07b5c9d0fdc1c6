"""Registry and serving target, made to follow what the ledger says is in force."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from mlretrain.errors import ContractError, NotFound, Superseded, TransientError
from mlretrain.ledger import Ledger, Link
from mlretrain.ports import CHALLENGER, CHAMPION, ModelRegistry, ServingTarget, Traffic
from mlretrain.standing import Standing

OUTCOME = "mlretrain.outcome"
"""The model version's tag that says what became of it."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Follower:
    """What has to follow one pipeline's ledger. Every method may be repeated.

    :param target: where models are served; none: only the champion's alias follows.
    """

    pipeline: str
    ledger: Ledger
    registry: ModelRegistry
    target: ServingTarget | None = None

    def settle(self) -> Standing:
        """Make alias and traffic what the ledger says is in force; nothing is done where they are.

        :raises ContractError: the target follows a later order than the ledger knows.
        """
        while True:
            standing = self.ledger.standing()
            self._crown(standing)
            served = self._order(standing.traffic)
            if self.ledger.standing() != standing:
                continue
            if not served:
                raise ContractError(
                    "the serving target follows a later order than the ledger knows",
                    where=self.pipeline,
                    found=f"generation {self.current().generation}",
                    allowed=f"at most {standing.traffic.generation}",
                    remedy=f"mlretrain verify {self.pipeline} --repair",
                )
            return standing

    def confirm(self) -> None:
        """Raises :class:`TransientError` unless what is served is what the ledger says."""
        wanted = self.ledger.standing().traffic
        if self.target is None or not wanted.weights:
            return
        found = self.current()
        if found.served != wanted.served or set(found.mirrored) != set(wanted.mirrored):
            raise TransientError(
                "what is served is not what the ledger says",
                where=self.pipeline,
                found=f"{found.served}, mirrored {dict(found.mirrored)}",
                allowed=f"{wanted.served}, mirrored {dict(wanted.mirrored)}",
                remedy=f"mlretrain verify {self.pipeline} --repair",
            )

    def serve(self, link: Link) -> None:
        """Have the target do what a link orders, unless something newer is in force."""
        wanted = link.event.traffic
        traffic = self.ledger.standing().traffic
        if self.target is not None and wanted is not None and traffic.same(wanted):
            self._order(traffic)

    def current(self) -> Traffic:
        """What is served now, whatever was ordered."""
        return self.target.current(self.pipeline) if self.target is not None else Traffic()

    def without_candidate(self, standing: Standing) -> Traffic | None:
        """All requests to the champion; without one, what is served now; ``None`` without a target."""
        if self.target is None:
            return None
        if standing.champion is not None:
            return everything_to(standing.champion)
        return replace(self.current(), generation=0)

    def close(self, version: str | None, outcome: str) -> None:
        """Say on the version what became of it, and that it is nobody's challenger any more."""
        if version is None:
            return
        drop_challenger(self.registry, self.pipeline, version)
        try:
            self.registry.tag(self.pipeline, version, {OUTCOME: outcome})
        except NotFound:
            logger.warning("Version %s is gone from the registry.", version)

    def _order(self, traffic: Traffic) -> bool:
        """Have the target serve what the ledger said a moment ago; ``False`` if a later order is in force."""
        if self.target is None or not traffic.weights:
            return True
        try:
            self.target.apply(self.pipeline, traffic)
        except Superseded:
            logger.info("A later order than %s is in force.", traffic)
            return False
        return True

    def _crown(self, standing: Standing) -> None:
        found = self.registry.version(self.pipeline, f"@{CHAMPION}")
        if standing.champion is not None and (found is None or found.version != standing.champion):
            self.registry.set_alias(self.pipeline, CHAMPION, standing.champion)


def drop_challenger(registry: ModelRegistry, pipeline: str, version: str) -> None:
    """Take the alias ``challenger`` from ``version``; another run's challenger keeps it."""
    challenger = registry.version(pipeline, f"@{CHALLENGER}")
    if challenger is not None and challenger.version == version:
        registry.set_alias(pipeline, CHALLENGER, None)


def everything_to(version: str) -> Traffic:
    """The traffic of a version that answers all requests, with no other beside it."""
    return Traffic(weights={version: 100})
