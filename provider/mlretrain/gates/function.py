"""Gates that users write: asked in the evaluation's job, where the rows are, and judged by what they said."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlretrain.gates.evaluation import Evaluation, FunctionResult
from mlretrain.runtime.training import load_entrypoint
from mlretrain.verdict import number

if TYPE_CHECKING:
    import pandas as pd

    from mlretrain.scoring import Predictions

_LONGEST = 200


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """The one argument of ``check(evidence)``, which answers whether the candidate may be promoted.

    It returns a bool, or a tuple of a bool, what was observed and what is required::

        def check(evidence):
            worst = abs(evidence.candidate.values - evidence.rows[evidence.target]).max()
            return worst <= 60, worst, "at most 60 minutes"

    Whatever it raises, and an observed number that is none, is a no.

    :param rows: the holdout, all columns.
    :param candidate: what the candidate says of ``rows``.
    :param champion: what the champion says; ``None`` if there is none or it cannot be asked.
    """

    evaluation: Evaluation
    rows: pd.DataFrame
    target: str
    candidate: Predictions
    champion: Predictions | None = None


def ask(name: str, evidence: Evidence) -> FunctionResult:
    """What the function ``package.module:name`` says; it gets a copy and cannot change the evidence."""
    try:
        function: Any = load_entrypoint(name, "promote.gates.function")[0]
        return _result(function(copy.deepcopy(evidence)))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever users' code raises is a no
        return FunctionResult(passed=False, error=_short(f"{type(error).__name__}: {error}"))


def _result(answer: Any) -> FunctionResult:
    said = answer if isinstance(answer, tuple) else (answer, None, None)
    if len(said) != 3 or not isinstance(passed := _plain(said[0]), bool):
        kinds = ", ".join(type(each).__name__ for each in said if each is not None) or "None"
        return FunctionResult(
            passed=False, error=f"returned {kinds}; allowed: bool, or (bool, observed, required)"
        )
    observed = _plain(said[1])
    if isinstance(observed, float) and not math.isfinite(observed):
        return FunctionResult(passed=False, error=f"observed {observed}", required=_spell(said[2]))
    return FunctionResult(passed=passed, observed=_spell(observed), required=_spell(said[2]))


def _plain(value: Any) -> Any:
    """A numpy scalar as Python's own."""
    return value.item() if hasattr(value, "item") and getattr(value, "shape", None) == () else value


def _spell(value: Any) -> str:
    value = _plain(value)
    if value is None:
        return ""
    return number(value) if isinstance(value, float) else _short(str(value))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
