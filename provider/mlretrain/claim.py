"""Whether a run may still move traffic or the champion: asked of the ledger right before each of its acts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from mlretrain.errors import Superseded, TransientError
from mlretrain.ledger import Ledger
from mlretrain.runtime.contract import run_slug
from mlretrain.standing import Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One task's claim to act for its run.

    :param begun: when the task began: what it does after its run has ended without it is too late.
    """

    run_id: str
    ledger: Ledger
    begun: datetime

    def holds(self, standing: Standing) -> bool:
        """Whether the rollout under way is this run's."""
        return standing.rollout == run_slug(self.run_id)

    def expect_unended(self) -> None:
        """Nothing follows what ended the run; a task that is doubled finds that when it is tried again."""
        ends = self.ledger.of_run(self.run_id, "promoted", "rolled_back")
        if ends:
            raise TransientError(
                "this run has just ended", where=self.run_id, found=ends[0].kind.replace("_", " ")
            )

    def expect_open(self) -> None:
        """The run has not ended, nor been concluded since the task began."""
        self.expect_unended()
        end = self.ledger.concluded(self.run_id)
        if end is not None and end.at > self.begun:
            raise Superseded("this run ended before its task did", where=self.run_id, found=end.reason)

    def expect_rollout(self, standing: Standing) -> None:
        """The rollout under way is this run's."""
        if not self.holds(standing):
            raise Superseded(
                "another run has taken over",
                where=self.ledger.pipeline,
                found=f"run {standing.rollout}" if standing.rollout else "no rollout under way",
                allowed=f"run {run_slug(self.run_id)}",
                remedy="Start a new run.",
            )

    def expect_not_withdrawn(self) -> None:
        """What the run has ordered was not taken back."""
        withdrawn = self.ledger.of_run(self.run_id, "withdrawn")
        if withdrawn:
            raise Superseded(
                "this run's order was withdrawn",
                where=self.ledger.pipeline,
                found=withdrawn[0].reason,
                remedy="Start a new run.",
            )

    def expect_champion(self, standing: Standing, version: str, champion: str | None) -> None:
        """The champion is still the one beside whom the candidate was judged, or the candidate itself."""
        if standing.champion not in (champion, version):
            raise Superseded(
                "the champion has changed since the candidate was judged",
                where=self.ledger.pipeline,
                found=f"version {standing.champion}",
                allowed=f"version {champion}",
                remedy="Start a new retraining; if this comes again, mlretrain verify says what differs.",
            )
