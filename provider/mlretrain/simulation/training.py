"""Models of the past: trained, judged and scored by the pipeline's own steps, in a folder of their own.

The train and evaluate steps run as in a job, on an MLflow database below the folder, so that code which logs
finds its run, and nothing is written anywhere else.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlretrain.data.dataset import Dataset, write_dataset
from mlretrain.drift.profile import DriftProfile, build_profile
from mlretrain.errors import InvalidInput
from mlretrain.gates.promotion import Evaluation, Gate, judge
from mlretrain.importance import Importance
from mlretrain.performance.calibration import Calibration
from mlretrain.performance.policy import PerformancePolicy, PerformanceReport, own_score
from mlretrain.policy.retrain import window_slug
from mlretrain.runtime.context import StepContext
from mlretrain.runtime.contract import StepRequest
from mlretrain.runtime.store import FileStore, file_uri, join_uri, read_uri
from mlretrain.runtime.tracking import RUN_FACT, tracking
from mlretrain.simulation.replay import FAILED, PROMOTED, REJECTED, Attempt
from mlretrain.wire import from_wire

if TYPE_CHECKING:
    from mlretrain.runtime.models import Answer, KeptModel
    from mlretrain.scoring import Predictions

_EXPERIMENT = "simulation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model that was trained on the window that ends at ``trained``.

    :param error: why there is none.
    """

    trained: datetime
    seconds: float
    rows: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """Rows of [``start``, ``end``) that the model trained at ``trained`` answered."""

    trained: datetime
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How good the answers to ``rows`` labelled rows were; ``value`` is NaN where it is not defined."""

    rows: int
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """How the pipeline trains and judges.

    :param folder: for models and the MLflow database.
    :param dataset: the whole history.
    :param window: length of a training's window; ``None``: all that is before its end.
    :param recipe: the train step's config without ``dataset_uri``.
    :param evaluation: the evaluate step's config without what training gives.
    :param environ: what else the steps find in their environment, such as credentials of the data's store.
    """

    folder: Path
    pipeline: str
    dataset: Dataset
    window: timedelta | None
    recipe: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    gates: tuple[Gate, ...]
    seed: int = 0
    environ: Mapping[str, str] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        """The environment of the steps."""
        return {
            **self.environ,
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder}/mlflow.db",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }

    def open(self) -> None:
        """Make the folder and its database, before several processes use them."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with tracking(self.env) as client:
            if client.get_experiment_by_name(_EXPERIMENT) is None:
                client.create_experiment(_EXPERIMENT, artifact_location=file_uri(self.folder / "artifacts"))

    def train(self, trained: datetime) -> Model:
        """Run the train step; an error of the data becomes the model's, one of the code is raised."""
        start = time.perf_counter()
        try:
            result = self._train(trained)
        except InvalidInput as error:
            return Model(trained=trained, seconds=time.perf_counter() - start, error=str(error))
        return Model(trained=trained, seconds=time.perf_counter() - start, rows=int(result["rows"]))

    def judge(self, candidate: datetime, champion: datetime | None) -> Attempt:
        """Run the evaluate step and the promotion gates; both models must have been trained."""
        try:
            evaluation = self._evaluate(candidate, champion)
        except InvalidInput as error:
            return Attempt(outcome=FAILED, reason=str(error))
        verdict = judge(self.gates, evaluation)
        return Attempt(
            outcome=PROMOTED if verdict.verdict == "promote" else REJECTED,
            reason=verdict.reason,
        )

    def score(self, served: Sequence[Served], metric: str) -> Score:
        """How good the answers to all rows of ``served`` were together."""
        from mlretrain.scoring import score

        target = str(self.recipe["target"])
        truth, predictions = [], []
        for each in served:
            frame, answer = self._answer(each)
            if answer is not None:
                truth.append(frame[target].to_numpy())
                predictions.append(answer.predictions)
        if not truth:
            return Score(rows=0, value=float("nan"))
        import numpy as np

        every = np.concatenate(truth)
        return Score(rows=len(every), value=score([metric], every, _together(predictions))[metric])

    def importance(self, trained: datetime) -> Mapping[str, float] | None:
        """The model's feature importance, if the evaluation found one."""
        uri = self._evaluated(trained).get("importance_uri")
        return None if uri is None else from_wire(Importance, json.loads(read_uri(uri))).values

    def expected(self, trained: datetime) -> DriftProfile:
        """How the model answered its own holdout."""
        uri = self._evaluated(trained)["prediction_profile_uri"]
        return from_wire(DriftProfile, json.loads(read_uri(uri)))

    def answers(self, served: Served, trained: datetime) -> DriftProfile:
        """How these rows were answered, in the bins of the champion of ``trained``."""
        import pandas as pd

        from mlretrain.data.read import connect

        expected = self.expected(trained)
        _, answer = self._answer(served, labelled=False)
        with connect() as con:
            rows = con.from_df(pd.DataFrame({"prediction": list(answer.served if answer else ())}))
            return build_profile(rows, include=("prediction",), reference=expected)

    def perform(self, served: Served, policy: PerformancePolicy) -> PerformanceReport:
        """How good the champion's own answers were, all labels that there are now being known."""
        import pandas as pd

        from mlretrain.data.read import connect
        from mlretrain.performance.labels import Answers, Source
        from mlretrain.performance.measure import Champion, measure, unmeasured

        frame, answer = self._answer(served, labelled=False)
        evaluated = self._evaluated(served.trained)
        evaluation = from_wire(Evaluation, json.loads(read_uri(evaluated["evaluation_uri"])))
        champion = Champion(
            version=window_slug(served.trained),
            own=own_score(
                evaluation.candidate.metrics.get(policy.metric), evaluation.intervals.get(policy.metric)
            ),
            calibration=from_wire(Calibration, json.loads(read_uri(evaluated["calibration_uri"]))),
        )
        if answer is None:
            return unmeasured(policy, "the champion has answered nothing in this span", champion)
        time = str(self.dataset.time_column)
        log = pd.DataFrame({"row": range(len(frame)), "prediction": list(answer.served), "time": frame[time]})
        truth = log.assign(label=frame[str(self.recipe["target"])])
        with connect() as con:
            answers = Answers(
                con,
                Source(relation=con.from_df(log), time_column="time", where="the replayed answers"),
                join_on=("row",),
                version=champion.version,
            )
            answers.join(Source(relation=con.from_df(truth), time_column=None, where="the labels"), "label")
            return measure(answers, policy, champion, seed=self.seed)

    def _train(self, trained: datetime) -> dict[str, Any]:
        from mlretrain.steps import train

        folder = self._folder(trained)
        dataset = replace(
            self.dataset, start=trained - self.window if self.window else self.dataset.start, end=trained
        )
        write_dataset(dataset, join_uri(file_uri(folder), "dataset.json"))
        with tracking(self.env) as client:
            [experiment] = client.search_experiments(filter_string=f"name = '{_EXPERIMENT}'")
            run = client.create_run(experiment.experiment_id, run_name=window_slug(trained))
        config = {**self.recipe, "dataset_uri": join_uri(file_uri(folder), "dataset.json")}
        context = self._context("train", trained, config, folder, {RUN_FACT: run.info.run_id})
        result = train.run(from_wire(train.Config, config), context)
        (folder / "training.json").write_text(json.dumps(result))
        return result

    def _evaluate(self, candidate: datetime, champion: datetime | None) -> Evaluation:
        from mlretrain.steps import evaluate

        ours = self._trained(candidate)
        config = {
            **self.evaluation,
            "candidate_uri": ours["model_uri"],
            "holdout_uri": ours["holdout_uri"],
            "holdout_sha256": ours["holdout_sha256"],
            "features": ours["features"],
        }
        facts = {
            "champion": champion
            and {"version": window_slug(champion), "model_uri": self._trained(champion)["model_uri"]},
            RUN_FACT: ours["mlflow_run_id"],
        }
        folder = self._folder(candidate) / f"beside-{window_slug(champion) if champion else 'none'}"
        context = self._context("evaluate", candidate, config, folder, facts)
        result = evaluate.run(from_wire(evaluate.Config, config), context)
        found = Path(self._folder(candidate) / f".{os.getpid()}.json")
        found.write_text(json.dumps(result))
        found.replace(self._folder(candidate) / "evaluation.json")
        return from_wire(Evaluation, json.loads(read_uri(result["evaluation_uri"])))

    def _context(
        self, step: str, trained: datetime, config: dict[str, Any], folder: Path, frozen: dict[str, Any]
    ) -> StepContext:
        request = StepRequest(
            step=step,
            pipeline=self.pipeline,
            run_id=window_slug(trained),
            window_end=trained,
            key=step,
            config=config,
            frozen=frozen,
            output_uri=file_uri(folder),
            seed=self.seed,
        )
        return StepContext(request=request, env=self.env, store=FileStore(folder))

    def _evaluated(self, trained: datetime) -> dict[str, Any]:
        """What the evaluate step returned for the model, beside whichever champion."""
        found: dict[str, Any] = json.loads((self._folder(trained) / "evaluation.json").read_text())
        return found

    def _answer(self, served: Served, *, labelled: bool = True) -> tuple[Any, Answer | None]:
        """The rows, or only the labelled ones, and the model's answer; ``None`` if there are none."""
        from mlretrain.data.frames import to_frame
        from mlretrain.data.read import connect, open_relation
        from mlretrain.data.time_window import quote

        part = replace(self.dataset, start=served.start, end=served.end)
        with connect() as con:
            rows = open_relation(con, part, self.env)
            known = f"{quote(str(self.recipe['target']))} IS NOT NULL"
            frame = to_frame(rows.filter(known) if labelled else rows)
        if not len(frame):
            return frame, None
        trained = self._trained(served.trained)
        with tracking(self.env):
            model = _load(str(trained["model_uri"]), tuple(trained["features"]))
            return frame, model.ask(frame)

    def _trained(self, trained: datetime) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self._folder(trained) / "training.json").read_text())
        return found

    def _folder(self, trained: datetime) -> Path:
        folder = self.folder / "models" / window_slug(trained)
        folder.mkdir(parents=True, exist_ok=True)
        return folder


@lru_cache(maxsize=8)
def _load(model_uri: str, features: tuple[str, ...]) -> KeptModel:
    from mlretrain.runtime.models import load

    return load(model_uri, features)


def _together(parts: Sequence[Predictions]) -> Predictions:
    """The predictions of several models as one; a class that one does not know has no chance."""
    import numpy as np

    from mlretrain.scoring import Predictions

    values = np.concatenate([each.values for each in parts])
    if any(each.probabilities is None for each in parts):
        return Predictions(values=values)
    classes = tuple(sorted({name for each in parts for name in each.classes}))
    tables = []
    for each in parts:
        table = np.zeros((len(each.values), len(classes)))
        table[:, [classes.index(name) for name in each.classes]] = each.probabilities
        tables.append(table)
    return Predictions(values=values, probabilities=np.concatenate(tables), classes=classes)
