"""Where a pipeline's history is, how it is profiled, and how models are trained on it."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlretrain import wire
from mlretrain.data.split import Holdout
from mlretrain.gates.promotion import Gate
from mlretrain.latency import ROWS
from mlretrain.metrics import LATENCY
from mlretrain.simulation.bench import Bench, Reference
from mlretrain.simulation.history import read_history
from mlretrain.simulation.simulate import Question
from mlretrain.simulation.training import Training
from mlretrain_factory.simulation.case import Case, arguments
from mlretrain_factory.spec.drift import DriftSpec

if TYPE_CHECKING:
    from mlretrain.data.dataset import Dataset


def bench(case: Case, asked: Question, *, folder: Path | None) -> Bench:
    """The history, scanned once, and how to train on it.

    :param folder: for the models; ``None``: nothing is trained.
    """
    from mlretrain.data.read import connect, open_relation, reading
    from mlretrain.runtime.recipe import Recipe, choose_features

    spec, monitor = case.source.spec, case.monitor
    window = spec.data.training.window
    cuts = asked.cuts(window, case.ago)
    dataset = _dataset(case, None if window is None else cuts[0])
    recipe = _recipe(case)
    unseen = [name for name, column in monitor.drift.columns.items() if column.ignore]
    with connect() as con, reading(dataset.uri):
        relation = open_relation(con, dataset)
        features = choose_features(
            wire.from_wire(Recipe, {**recipe, "dataset_uri": ""}), relation.columns, case.time_column
        )
        history = read_history(
            relation,
            time_column=case.time_column,
            cuts=cuts,
            include=[each for each in features if each not in unseen and each != case.time_column],
            top=monitor.drift.top,
            sensitive=[name for name, column in monitor.drift.columns.items() if column.sensitive],
        )
    return Bench(
        history=history,
        training_window=window,
        holdout=wire.from_wire(Holdout, recipe["holdout"]),
        chunk_s=monitor.data.window.total_seconds(),
        delay=monitor.performance.labels.delay if monitor.performance else timedelta(),
        reference=_reference(monitor.drift),
        training=_training(case, dataset, recipe, folder) if folder is not None else None,
    )


def _dataset(case: Case, start: datetime | None) -> Dataset:
    from mlretrain.data.resolve import resolve

    return resolve(
        case.uri,
        time_column=case.time_column,
        start=start,
        end=case.end,
        format=case.source.spec.data.training.format if case.data_uri is None else None,
    )


def _reference(drift: DriftSpec) -> Reference:
    if drift.reference_age is not None:
        return drift.reference_age
    return "previous_window" if drift.reference == "previous_window" else "champion"


def _recipe(case: Case) -> dict[str, Any]:
    """The train step's config, as its operator would write it."""
    given = arguments(case.source, "retrain", "train")
    features = given.get("features") or {}
    return {
        "entrypoint": given.get("entrypoint"),
        "command": given.get("command"),
        "params": given.get("hyperparameters") or {},
        "target": given["target"],
        "features_include": features.get("include") and list(features["include"]),
        "features_exclude": list(features.get("exclude") or ()),
        "holdout": given["holdout"],
        "time_column": case.time_column,
        "prediction_method": given["prediction_method"],
    }


def _training(case: Case, dataset: Dataset, recipe: dict[str, Any], folder: Path) -> Training:
    evaluation = arguments(case.source, "retrain", "evaluate")
    gates = arguments(case.source, "retrain", "promotion_gate")["gates"]
    wanted = ("target", "metrics", "slices", "confidence", "importance", "functions", "time_column")
    timed = any(gate.get("metric") in LATENCY for gate in gates)
    latency = evaluation.get("latency_rows", ROWS) if timed else 0
    return Training(
        folder=folder.absolute(),
        pipeline=case.source.spec.pipeline,
        dataset=dataset,
        window=case.source.spec.data.training.window,
        recipe=recipe,
        evaluation={
            **{name: wire.to_wire(evaluation[name]) for name in wanted if name in evaluation},
            "latency_rows": latency,
        },
        gates=tuple(wire.from_wire(Gate, wire.to_wire(gate)) for gate in gates),
        environ=dict(os.environ),
    )
