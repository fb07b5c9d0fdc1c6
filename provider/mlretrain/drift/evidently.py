"""Evidently's word on a window, for teams that have chosen and tuned its presets already.

Evidently reads rows, so it is given the sample that training has kept and one that is drawn from the window
in the same way. Release 0.7.23 does not import beside pandas 3.1, which no longer has a function of pandas'
own that it uses (``infer_dtype_from_object``), so that it runs in the environment of its own job.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mlretrain.drift.encoding import shared_columns
from mlretrain.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

    from mlretrain.drift.verdict import ColumnDrift

REQUIREMENTS = ("evidently==0.7.23", "pandas<3")
"""What a job needs that asks Evidently."""

PRESET = "evidently.presets:DataDriftPreset"


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnScore:
    """What Evidently says of one column, by the name that it gives its method."""

    name: str
    method: str
    score: float
    threshold: float
    drifted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidentlyResult:
    """What Evidently says of a window's sample beside the reference's.

    :param preset: who chose what is measured.
    :param rows: rows of the window that it was given; ``reference_rows`` those of the reference.
    :param note: why there is no word on any column.
    """

    preset: str
    rows: int
    reference_rows: int
    columns: tuple[ColumnScore, ...] = ()
    note: str | None = None


def ask_evidently(
    reference: pa.Table, window: pa.Table, *, preset: str | None = None
) -> tuple[EvidentlyResult, bytes | None]:
    """Its scores and its own HTML page.

    A preset that stumbles over the data gives no scores and a ``note``.

    :param preset: ``package.module:function`` that returns an ``evidently.Report``; none: its
        ``DataDriftPreset``.
    :raises ConfigError: Evidently cannot be imported here, or the function is none.
    """
    report = _report(preset)
    asked = EvidentlyResult(preset=preset or PRESET, rows=window.num_rows, reference_rows=reference.num_rows)
    names = list(shared_columns(reference, window))
    frames = [each.select(names).to_pandas() for each in (window, reference)]
    # A column without any value makes Evidently refuse all the others too.
    names = [name for name in names if all(len(each[name].dropna()) for each in frames)]
    if not names:
        return replace(asked, note="no column has values in both the reference and the window"), None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = report.run(*(each[names] for each in frames))
            columns = tuple(_scores(found.dict()))
            page = found.get_html_str(as_iframe=False).encode()
    except Exception as error:  # noqa: BLE001 - a team's preset may raise anything about odd data
        text = str(error).strip().split("\n", 1)[0]
        return replace(asked, note=f"Evidently failed with {type(error).__name__}: {text}"), None
    note = None if columns else "the preset measures no drift of any column"
    return replace(asked, columns=columns, note=note), page


def judged_by(result: EvidentlyResult, columns: Sequence[ColumnDrift]) -> list[ColumnDrift]:
    """The verdicts on columns as Evidently gives them: a column that it says nothing of is not judged.

    What could not be measured at all, such as a column that has vanished, stays as it is.
    """
    scores = {each.name: each for each in result.columns}
    said = [_said(each, scores[each.name]) for each in columns if not each.note and each.name in scores]
    kept = [*said, *(each for each in columns if each.note)]
    total = sum(each.importance or 0.0 for each in kept) or 1.0
    return [replace(each, importance=(each.importance or 0.0) / total) for each in kept]


def _said(column: ColumnDrift, score: ColumnScore) -> ColumnDrift:
    return replace(
        column,
        method=score.method,
        effect=score.score,
        threshold=score.threshold,
        noise=0.0,
        drifted=score.drifted,
    )


def _report(preset: str | None) -> Any:
    """A report that says of each column whether it drifted."""
    try:
        from evidently import Report
        from evidently.presets import DataDriftPreset
    except ImportError as error:
        raise ConfigError(
            "Evidently cannot be imported here",
            where="drift.engine",
            found=str(error),
            remedy=f"The job needs requirements: {', '.join(REQUIREMENTS)}",
        ) from error
    if preset is None:
        return Report([DataDriftPreset()], include_tests=True)
    from mlretrain.runtime.training import load_entrypoint

    function: Any = load_entrypoint(preset, "drift.preset")[0]
    report = function()
    if not isinstance(report, Report):
        raise ConfigError(
            f"{preset} returned no report",
            where="drift.preset",
            found=type(report).__name__,
            allowed="an evidently.Report",
        )
    report.include_tests = True
    return report


def _scores(found: Mapping[str, Any]) -> Iterator[ColumnScore]:
    """The drift of each column, whose own test says whether it is too much."""
    values = {each["id"]: each["value"] for each in found["metrics"]}
    for test in found["tests"]:
        metric = test["metric_config"]
        params = metric["params"]
        if str(params.get("type")).rpartition(":")[2] == "ValueDrift":
            yield ColumnScore(
                name=params["column"],
                method=params["method"],
                score=float(values[metric["metric_id"]]),
                threshold=float(params["threshold"]),
                drifted=str(getattr(test["status"], "value", test["status"])) != "SUCCESS",
            )
