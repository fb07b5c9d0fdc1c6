"""One search as a process carries it on: what is asked now, what came of a job, when there is no hope."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlretrain.errors import ContractError, MlretrainError, TransientError, UserCodeError, from_wire
from mlretrain.ports import ArtifactStore, JobStatus
from mlretrain.runtime.contract import StepReport, StepRequest
from mlretrain.runtime.store import join_uri
from mlretrain.runtime.tracking import RUN_FACT
from mlretrain.wire import pretty
from mlretrain_provider.jobs import StepJob
from mlretrain_provider.study import Study, Trial
from mlretrain_provider.study_page import render_html
from mlretrain_provider.trials import TrialLog

if TYPE_CHECKING:
    from mlretrain_provider.study_database import StudyDatabase

STUDY_FILE, PAGE_FILE = "study.json", "trials.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A search and its trials.

    :param request: the search as it was frozen: its configuration, its MLflow run.
    :param prefix: its folder in ``store``.
    :param total: how many trials there will be.
    """

    request: StepRequest
    store: ArtifactStore
    prefix: str
    study: Study
    log: TrialLog
    total: int
    database: StudyDatabase | None

    @property
    def mlflow_run_id(self) -> str:
        """The run whose children the trials' runs are."""
        return str(self.request.frozen[RUN_FACT])

    def running(self, at_once: int, open_run: Callable[[int], str]) -> list[Trial]:
        """The trials that are to run now, new ones asked where there are fewer than ``at_once``.

        :param open_run: makes the MLflow run of a trial, or finds it.
        """
        running = [each for each in self.log.trials if each.state == "running"]
        while len(running) < at_once and len(self.log.trials) < self.total:
            params, number = self.study.ask(self.log.trials), len(self.log.trials)
            running.append(self.log.ask(params, open_run(number)))
        self.publish()
        return running[:at_once]

    def question(self, trial: Trial) -> dict[str, Any]:
        """The configuration of the trial's job: a :class:`mlretrain.steps.trial.Config` as JSON."""
        config = self.request.config
        return {
            **config["recipe"],
            "params": {**config["recipe"]["params"], **trial.params},
            "metric": config["metric"],
            "validation_fraction": config["validation_fraction"],
            "number": trial.number,
            "study": self.request.key,
        }

    def outcome(self, job: StepJob, status: JobStatus, retries: int) -> StepReport | MlretrainError | None:
        """What came of a trial's job that has ended; ``None``: another one is to be started for the trial.

        :param retries: how often a job that its platform has lost is started again.
        :raises MlretrainError: what would fail every trial; or somebody has cancelled the job.
        """
        found = job.outcome(status)
        if isinstance(found, StepReport):
            return found
        if status.state == "cancelled" or not isinstance(found, (UserCodeError, TransientError)):
            job.settle()
            raise found
        again = job.record.number < (retries + 1) * (self.log.round + 1)
        timed_out = (status.reason or "").startswith("timed out")
        if isinstance(found, TransientError) and again and not timed_out:
            job.settle()
            return None
        return found

    def hopeless(self) -> MlretrainError | None:
        """The first failed trial's error, once more than half of all have failed."""
        failed = [each for each in self.log.trials if each.state == "failed"]
        if len(failed) * 2 <= self.total:
            return None
        error, number = failed[0].error or {}, failed[0].number
        told = f"{len(failed)} of {self.total} trials failed, the first of them, trial {number}, with: "
        return from_wire({**error, "message": told + str(error.get("message"))})

    def best(self) -> Trial:
        """The best trial. Raises :class:`ContractError` if none is complete."""
        found = self.study.best(self.log.trials)
        if found is None:
            raise ContractError("a search without any complete trial", where=self.prefix)
        return found

    def result(self) -> dict[str, Any]:
        """What the search has found."""
        best, trials = self.best(), self.log.trials
        return {
            "best_params": best.params,
            "best_value": best.value,
            "best_trial": best.number,
            "metric": self.request.config["metric"],
            "direction": self.study.direction,
            "trials": len(trials),
            "failed": sum(each.state == "failed" for each in trials),
            "mlflow_run_id": self.mlflow_run_id,
            "study_uri": join_uri(self.store.root_uri, f"{self.prefix}/{STUDY_FILE}"),
            "trials_uri": join_uri(self.store.root_uri, f"{self.prefix}/{PAGE_FILE}"),
        }

    def keep(self, result: Mapping[str, Any]) -> None:
        """Write what was found, and every trial, for programs and for people."""
        config, trials = self.request.config, self.log.trials
        rules = {name: config[name] for name in ("space", "sampler", "validation_fraction")}
        kept = {**result, **rules, "seed": self.study.seed, "trials": trials}
        self.store.write(f"{self.prefix}/{STUDY_FILE}", pretty(kept))
        title = f"{self.request.pipeline}, {self.request.window_end:%Y-%m-%d}: search for hyperparameters"
        html = render_html(trials, best=self.best(), metric=config["metric"], title=title)
        self.store.write(f"{self.prefix}/{PAGE_FILE}", html.encode())
        self.publish()

    def publish(self) -> None:
        """Bring the database, if there is one, up to the trials."""
        if self.database is not None:
            self.database.keep(self.log.trials)
