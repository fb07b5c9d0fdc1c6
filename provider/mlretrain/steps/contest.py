"""Candidate and champion before the same rows: loaded, asked, and measured for what their use costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlretrain.errors import InvalidInput
from mlretrain.latency import WARM_UP, Ask, percentiles, race
from mlretrain.metrics import MODEL_SIZE
from mlretrain.runtime.tracking import is_away

if TYPE_CHECKING:
    import pandas as pd

    from mlretrain.runtime.models import Answer, KeptModel

_MB = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Contender:
    """A model and what it says of the holdout."""

    model: KeptModel
    answer: Answer


def candidate(model_uri: str, features: Sequence[str], rows: pd.DataFrame) -> Contender:
    """The candidate, asked. Raises :class:`InvalidInput` if it cannot be."""
    try:
        return _asked(model_uri, features, rows)
    except Exception as error:
        if is_away(error):
            raise
        raise InvalidInput(
            "the candidate cannot be loaded or cannot predict on the holdout",
            where=model_uri,
            found=describe(error),
        ) from error


def champion(
    version: str, model_uri: str, features: Sequence[str], rows: pd.DataFrame
) -> tuple[Contender | None, str | None]:
    """The champion, asked, or why it cannot be."""
    try:
        return _asked(model_uri, features, rows), None
    except Exception as error:
        if is_away(error):
            raise
        return None, report(f"champion v{version} could not be scored: {describe(error)}")


def costs(
    candidate: Contender, champion: Contender | None, rows: pd.DataFrame, *, singles: int
) -> dict[str, dict[str, float]]:
    """What the use of ``candidate`` and ``champion`` costs, as far as it can be measured.

    :param singles: how many rows are asked one by one.
    """
    contenders = {"candidate": candidate} | ({"champion": champion} if champion else {})
    latencies = {}
    if singles:
        asks = {name: _ask_one(each.model, rows, singles) for name, each in contenders.items()}
        latencies = _latencies(asks, singles)
    return {
        name: {MODEL_SIZE: each.model.size / _MB, **latencies.get(name, {})}
        for name, each in contenders.items()
    }


def report(words: str) -> str:
    """``words``, which the job's log has too."""
    print(words, flush=True)  # noqa: T201 - the job's log
    return words


def describe(error: Exception) -> str:
    """In one line, without the rows that MLflow puts before what is wrong with them."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text.rpartition(' Error: ')[2][:300]}"


def _asked(model_uri: str, features: Sequence[str], rows: pd.DataFrame) -> Contender:
    from mlretrain.runtime.models import load

    model = load(model_uri, features)
    return Contender(model=model, answer=model.ask(rows))


def _latencies(asks: Mapping[str, Ask], singles: int) -> dict[str, dict[str, float]]:
    """By contender; one that fails on a single row has none, and does not cost the other its own."""
    try:
        return {name: percentiles(seconds) for name, seconds in race(asks, singles).items()}
    except Exception as error:
        if is_away(error):
            raise
        if len(asks) == 1:
            report(f"the {', '.join(asks)}'s latency could not be measured: {describe(error)}")
            return {}
    return {name: found for each in asks for name, found in _latencies({each: asks[each]}, singles).items()}


def _ask_one(model: KeptModel, rows: pd.DataFrame, singles: int) -> Ask:
    """The model on one of ``rows``, which are drawn evenly; what it is asked with is made ready before."""
    count = min(len(rows), WARM_UP + singles)
    inputs = [model.inputs(rows.iloc[[i * len(rows) // count]]) for i in range(count)]
    return lambda turn: model.loaded.predict(inputs[turn % count])
