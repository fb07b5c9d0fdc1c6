"""The performance step: how good the champion's answers were, on labels that came late or without them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from mlretrain.data.dataset import Dataset, read_dataset
from mlretrain.errors import ContractError, InvalidInput, NotFound
from mlretrain.gates.promotion import Evaluation
from mlretrain.performance.calibration import Calibration
from mlretrain.performance.measure import Champion, measure, unmeasured
from mlretrain.performance.policy import PerformancePolicy, PerformanceReport, own_score
from mlretrain.runtime.store import read_uri
from mlretrain.wire import from_wire, pretty

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from mlretrain.performance.labels import Answers, Source
    from mlretrain.runtime.context import StepContext

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Whose answers to measure on which labels; the rest as in :class:`PerformancePolicy`.

    :param dataset_uri: the window of predictions.
    :param labels_uri: the labels that were there; ``None`` if none could be found, for ``labels_trouble``.
    :param join_on: the columns that name a row in both.
    :param target: the labels' column.
    """

    dataset_uri: str
    labels_uri: str | None
    labels_trouble: str | None = None
    join_on: tuple[str, ...]
    target: str
    metric: str
    min: float | None = None
    max_drop: float | None = None
    min_coverage: float = 0.5
    estimate: Literal["auto", "never"] = "auto"
    confidence: float = 0.95

    @property
    def policy(self) -> PerformancePolicy:
        """What is required."""
        return PerformancePolicy(
            metric=self.metric,
            min=self.min,
            max_drop=self.max_drop,
            min_coverage=self.min_coverage,
            estimate=self.estimate,
            confidence=self.confidence,
        )


def run(config: Config, ctx: StepContext) -> dict[str, Any]:
    """The report, kept as ``performance.json``.

    Data that cannot be read makes its verdict ``unknown``, for a reason; it is no error, because a window
    that cannot be measured is something to be told.

    :raises ConfigError: what is asked for cannot be.
    :raises TransientError: a store did not answer, or the memory did not suffice.
    """
    policy = config.policy
    champion = _champion(config, ctx)
    with ctx.phase("measure"):
        try:
            report = _measure(config, ctx, champion)
        except (InvalidInput, NotFound) as error:
            report = unmeasured(policy, str(error), champion)
    return {"performance_uri": ctx.write_output("performance", "performance.json", pretty(report))}


def _champion(config: Config, ctx: StepContext) -> Champion:
    """What its evaluation has left, as far as that can be read."""
    frozen: Mapping[str, Any] = ctx.request.frozen["champion"]
    notes: list[str] = []
    evaluation = _read(Evaluation, frozen.get("evaluation_uri"), ctx, notes)
    calibration = _read(Calibration, frozen.get("calibration_uri"), ctx, notes)
    own = None
    if evaluation is not None:
        own = own_score(
            evaluation.candidate.metrics.get(config.metric), evaluation.intervals.get(config.metric)
        )
    return Champion(version=str(frozen["version"]), own=own, calibration=calibration, notes=tuple(notes))


def _read(kind: type[T], uri: str | None, ctx: StepContext, notes: list[str]) -> T | None:
    if uri is None:
        return None
    try:
        return from_wire(kind, json.loads(read_uri(uri, ctx.env)))
    except (NotFound, ContractError, ValueError) as error:
        notes.append(f"the champion's {kind.__name__.lower()} cannot be read: {error}")
        return None


def _measure(config: Config, ctx: StepContext, champion: Champion) -> PerformanceReport:
    from mlretrain.data.read import connect
    from mlretrain.performance.labels import MEMORY, Answers

    with connect(MEMORY) as con:
        con.execute("SET preserve_insertion_order = false")
        dataset = read_dataset(config.dataset_uri, ctx.env)
        answers = Answers(
            con,
            _source(con, dataset, ctx),
            join_on=config.join_on,
            version=champion.version,
        )
        trouble = _join(con, answers, config, ctx)
        report = measure(answers, config.policy, champion, seed=ctx.request.seed, trouble=trouble)
        return replace(report, start=dataset.start, end=dataset.end)


def _join(con: DuckDBPyConnection, answers: Answers, config: Config, ctx: StepContext) -> str | None:
    """Why there are no labels, if so."""
    if config.labels_uri is None:
        return config.labels_trouble or "there are no labels"
    try:
        answers.join(_source(con, read_dataset(config.labels_uri, ctx.env), ctx), config.target)
    except (InvalidInput, NotFound) as error:
        return f"the labels cannot be used: {error}"
    return None


def _source(con: DuckDBPyConnection, dataset: Dataset, ctx: StepContext) -> Source:
    from mlretrain.data.read import open_relation
    from mlretrain.performance.labels import Source

    relation = open_relation(con, dataset, ctx.env)
    return Source(relation=relation, time_column=dataset.time_column, where=dataset.uri)
