"""The search for hyperparameters: each trial a job, some at once, the best one into the training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from mlretrain import wire
from mlretrain.errors import ConfigError, MlretrainError, TransientError
from mlretrain.metrics import higher_is_better
from mlretrain.ports import JobSpec
from mlretrain.runtime.contract import StepReport, StepRequest, run_slug
from mlretrain.runtime.tracking import RUN_FACT
from mlretrain.steps.trial import METRIC_PREFIX
from mlretrain_provider.jobs import StepJob
from mlretrain_provider.links import LINKS_XCOM, MLflowRunLink, TrialsLink
from mlretrain_provider.operators.recipe import RecipeOperator, overrides
from mlretrain_provider.run import RunIdentity
from mlretrain_provider.search import STUDY_FILE, Search
from mlretrain_provider.space import read_space
from mlretrain_provider.study import Study, Trial
from mlretrain_provider.trials import TrialLog

if TYPE_CHECKING:
    from airflow.sdk import Context

    from mlretrain_provider.study_database import StudyDatabase


class TuneModelOperator(RecipeOperator):
    """Search for the hyperparameters of a training. Each trial is a job on the backend.

    Returns ``{best_params, best_value, best_trial, metric, direction, trials, failed, mlflow_run_id,
    study_uri, trials_uri}``; give it to :class:`TrainModelOperator` as ``tuning``.
    A trial trains on a part of the training rows and is scored on the rest of them; the rows that the
    candidate will be judged on are seen by none. It logs to an MLflow run of its own below the search's, and
    keeps no model. A ``command`` finds the rest of the rows in the Parquet file ``MLRETRAIN_VALIDATION_DATA``
    and the trial's number in ``MLRETRAIN_TRIAL``: it is scored by the model that it logs, or else by what it
    logs as the metric ``MLRETRAIN_METRIC``.

    What was asked and answered is written to the artifact store before anything follows from it: a search
    that dies goes on with the jobs that it left, and loses or repeats no trial; so does one whose ``trials``
    are raised later. A trial whose code fails is told the study as failed. When more than half of the trials
    have failed, the task fails with the first one's error; run again, it repeats what has failed. A trial's
    job that its platform has lost is started again, ``retries`` times. Further arguments are those of
    :class:`~mlretrain_provider.operators.recipe.RecipeOperator`.

    :param space: by name of a hyperparameter ``{int: [low, high]}`` or ``{float: [low, high]}`` with ``step``
        or ``log``, or ``{choice: [...]}``. Those that the run's conf sets are not searched.
    :param sampler: ``tpe``, ``random``, ``cmaes`` or ``grid``. TPE is Optuna's, which must be installed where
        this operator runs: the extra ``tune``.
    :param trials: how many, at most; a grid may end earlier.
    :param parallelism: how many jobs at once.
    :param metric: what a trial is judged by: ``roc_auc``, ``log_loss``, ``rmse`` …, or one that the code logs
        to its run under that name.
    :param direction: ``maximize`` or ``minimize``; none: the metric's own.
    :param validation_fraction: share of the training rows that trials are scored on: the latest ones where
        there is a time column.
    :param timeout_s: seconds that one trial may take; none: no limit but the task's.
    :param study_conn_id: connection of a PostgreSQL, MySQL or SQLite database that is kept up to date with
        the trials, for Optuna's own tools; none: the artifact store alone.
    """

    step = "tune"
    template_fields = (
        *RecipeOperator.template_fields,
        "space",
        "sampler",
        "trials",
        "parallelism",
        "metric",
        "direction",
        "validation_fraction",
        "timeout_s",
        "study_conn_id",
    )
    operator_extra_links = (MLflowRunLink(), TrialsLink())

    def __init__(
        self,
        *,
        space: Mapping[str, Mapping[str, Any]],
        metric: str,
        sampler: str = "tpe",
        trials: int = 30,
        parallelism: int = 1,
        direction: str | None = None,
        validation_fraction: float = 0.2,
        timeout_s: float | None = None,
        study_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.space = space
        self.metric = metric
        self.sampler = sampler
        self.trials = trials
        self.parallelism = parallelism
        self.direction = direction
        self.validation_fraction = validation_fraction
        self.timeout_s = timeout_s
        self.study_conn_id = study_conn_id

    def config(self, run: RunIdentity, context: Context) -> dict[str, Any]:
        """All that the questions depend on; how many are asked, and how many at once, may change."""
        fixed = overrides(run)
        return {
            "recipe": self.recipe(run),
            "space": {name: each for name, each in self.space.items() if name not in fixed},
            "sampler": self.sampler,
            "metric": self.metric,
            "direction": self.direction or _direction_of(self.metric),
            "validation_fraction": float(self.validation_fraction),
        }

    def perform(self, run: RunIdentity, context: Context) -> dict[str, Any]:
        self.count_in(run)
        search = self._open(run, context)
        context["ti"].xcom_push(key=LINKS_XCOM, value={RUN_FACT: search.mlflow_run_id})
        jobs: dict[int, StepJob] = {}
        try:
            while running := search.running(int(self.parallelism), lambda n: self._trial_run(search, run, n)):
                jobs = {
                    each.number: jobs.get(each.number) or self._trial_job(each, search, run, context)
                    for each in running
                }
                self._answer(search, jobs)
                self._give_up_if_hopeless(search)
        except MlretrainError as error:
            if not isinstance(error, TransientError):  # else the platform is away and the jobs may be well
                self.on_kill()
            raise
        return self._conclude(search)

    def _open(self, run: RunIdentity, context: Context) -> Search:
        config = wire.to_wire(self.config(run, context))
        study = _study(config, int(self.seed))
        total = study.total(_at_least_one("trials", self.trials))
        _at_least_one("parallelism", self.parallelism)
        name = f"search {self.pipeline} {run.window_end:%Y-%m-%d}"
        dataset = config["recipe"]["dataset_uri"]
        request, prefix = self.freeze(
            run, self.step, config, lambda run, key, _: self.open_run(run, key, name, dataset)
        )
        return Search(
            request=request,
            store=self.store,
            prefix=prefix,
            study=study,
            log=TrialLog(self.store, prefix),
            total=total,
            database=self._database(f"{self.pipeline}/{run_slug(run.run_id)}/{request.key}", study),
        )

    def _database(self, name: str, study: Study) -> StudyDatabase | None:
        from mlretrain_provider.study_database import StudyDatabase

        return StudyDatabase.of(self.study_conn_id, name, study) if self.study_conn_id else None

    def _trial_run(self, search: Search, run: RunIdentity, number: int) -> str:
        """The trial's MLflow run, below the search's."""
        tags = {
            "mlflow.parentRunId": search.mlflow_run_id,
            "mlretrain.pipeline": self.pipeline,
            "mlretrain.run_id": run.run_id,
            "mlretrain.trial": str(number),
        }
        return self.tracker.open_run(
            self.experiment or self.pipeline, f"{search.request.key}-{number}", f"trial {number}", tags
        )

    def _trial_job(self, trial: Trial, search: Search, run: RunIdentity, context: Context) -> StepJob:
        self.log.info("Trial %d: %s", trial.number, trial.params)
        frozen = {RUN_FACT: trial.mlflow_run_id}
        return self.job(run, context, "trial", wire.to_wire(search.question(trial)), lambda *_: frozen)

    def _answer(self, search: Search, jobs: Mapping[int, StepJob]) -> None:
        """Tell the study of every trial that has ended, after waiting until one has."""
        waiting: dict[str, int] = {}
        for number, job in jobs.items():
            report = job.succeeded()
            if report is not None:
                self._tell(search, number, job, report)
            else:
                job.look()
                waiting[job.request.key] = number
        if len(waiting) < len(jobs):
            return
        for job, status in self.wait(list(jobs.values())):
            found = search.outcome(job, status, int(self.retries or 0))
            if found is not None:
                self._tell(search, waiting[job.request.key], job, found)
            else:
                self.log.warning("Job %s is lost; another one is started.", job.record.name)

    def _tell(self, search: Search, number: int, job: StepJob, found: StepReport | MlretrainError) -> None:
        trial = search.log.trials[number]
        if isinstance(found, StepReport):
            self.tracker.close_run(trial.mlflow_run_id, "FINISHED")
            told = search.log.tell(trial, value=float(found.result["value"]))
            self.log.info("Trial %d: %s %s", number, self.metric, told.value)
        else:
            self.tracker.close_run(trial.mlflow_run_id, "FAILED")
            search.log.tell(trial, error=found.to_wire())
            self.log.warning("Trial %d failed: %s", number, found)
            job.settle()
        self._jobs.pop(job.request.key, None)

    def _give_up_if_hopeless(self, search: Search) -> None:
        error = search.hopeless()
        if error is not None:
            search.log.give_up()
            self.tracker.close_run(search.mlflow_run_id, "FAILED")
            self.on_kill()
            raise error

    def _conclude(self, search: Search) -> dict[str, Any]:
        """Let the search's MLflow run, the artifact store and the database say what was found.

        The run's parameters are those of the first conclusion, since MLflow lets no parameter change; should
        more trials find a better one later, tags and metric say so.
        """
        result = search.result()
        before = self.recall(f"{search.prefix}/{STUDY_FILE}")
        same = before is None or before["best_trial"] == result["best_trial"]
        self.tracker.log(
            search.mlflow_run_id,
            params=result["best_params"] if same else None,
            metrics={METRIC_PREFIX + result["metric"]: float(result["best_value"])},
            tags={
                "mlretrain.best_trial": str(result["best_trial"]),
                "mlretrain.best_params": wire.canonical(result["best_params"]).decode(),
                "mlretrain.trials": str(result["trials"]),
                "mlretrain.failed_trials": str(result["failed"]),
            },
        )
        self.tracker.close_run(search.mlflow_run_id, "FINISHED")
        search.keep(result)
        return result

    def _spec(
        self, request: StepRequest, run: RunIdentity, context: Context, name: str, number: int
    ) -> JobSpec:
        spec = super()._spec(request, run, context, name, number)
        return spec if self.timeout_s is None else replace(spec, timeout_s=float(self.timeout_s))


def _study(config: Mapping[str, Any], seed: int) -> Study:
    """The rules of the search. Raises :class:`ConfigError` for what is none."""
    samplers, directions = ("tpe", "random", "cmaes", "grid"), ("maximize", "minimize")
    for name, allowed in (("sampler", samplers), ("direction", directions)):
        if config[name] not in allowed:
            raise ConfigError(
                f"unknown {name}", where="tune", found=repr(config[name]), allowed=", ".join(allowed)
            )
    return Study(
        space=read_space(config["space"]),
        sampler=config["sampler"],
        direction=config["direction"],
        seed=seed,
    )


def _at_least_one(name: str, value: Any) -> int:
    if int(value) < 1:
        raise ConfigError(
            "a search without trials", where=f"tune.{name}", found=str(value), allowed="1, 2, …"
        )
    return int(value)


def _direction_of(metric: str) -> Literal["maximize", "minimize"]:
    return "maximize" if higher_is_better(metric) else "minimize"
