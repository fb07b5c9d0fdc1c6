"""What the profile step measures on rows, not on profiles: joint shifts, and Evidently's word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mlretrain.drift.domain import DomainShift, measure_domain
from mlretrain.drift.evidently import PRESET, EvidentlyResult, ask_evidently
from mlretrain.drift.sample import ROWS, Sample, from_parquet
from mlretrain.errors import ContractError, NotFound
from mlretrain.runtime.store import read_uri
from mlretrain.wire import pretty

if TYPE_CHECKING:
    import pyarrow as pa

    from mlretrain.runtime.context import StepContext


@dataclass(frozen=True, slots=True, kw_only=True)
class RowMeasures:
    """Which measures, and on how many rows of the window.

    :param sample_uri: the sample that training has kept.
    :param domain: measure joint shifts.
    :param evidently: ask Evidently, by ``preset`` if there is one.
    """

    sample_uri: str | None = None
    rows: int = ROWS
    domain: bool = False
    evidently: bool = False
    preset: str | None = None


def measure_rows(
    wanted: RowMeasures, ctx: StepContext, *, window: pa.Table, against: pa.Table | None
) -> dict[str, Any]:
    """The URIs of what was found, also where that is only why nothing could be.

    :param window: rows drawn from the window.
    :param against: rows drawn from the other window that is the reference; none: training's sample is.
    """
    reference = _reference(wanted.sample_uri, ctx.env, against)
    found: dict[str, Any] = {}
    if wanted.domain:
        with ctx.phase("domain"):
            shift = _domain(reference, window, ctx.request.seed)
        found["domain_uri"] = ctx.write_output("domain", "domain.json", pretty(shift))
    if wanted.evidently:
        with ctx.phase("evidently"):
            result, page = _evidently(reference, window, wanted.preset)
        found["evidently_uri"] = ctx.write_output("evidently", "evidently.json", pretty(result))
        if page is not None:
            uri = ctx.write_output("evidently_page", "evidently.html", page)
            found["evidently_page_uri"] = uri
    return found


def _reference(uri: str | None, env: Mapping[str, str], against: pa.Table | None) -> Sample | str:
    """The rows to compare with, or why there are none; only training knows how its chunks of time differ."""
    kept: Sample | str = "the champion has kept no sample of its training rows: retrain it"
    if uri is not None:
        try:
            kept = from_parquet(read_uri(uri, env), uri)
        except (ContractError, NotFound) as error:
            kept = str(error)
    if against is None:
        return kept
    return replace(kept, table=against) if isinstance(kept, Sample) else Sample(table=against)


def _domain(reference: Sample | str, window: pa.Table, seed: int) -> DomainShift:
    if isinstance(reference, Sample):
        return measure_domain(reference, window, seed=seed)
    return DomainShift(rows=window.num_rows, note=reference)


def _evidently(
    reference: Sample | str, window: pa.Table, preset: str | None
) -> tuple[EvidentlyResult, bytes | None]:
    if isinstance(reference, Sample):
        return ask_evidently(reference.table, window, preset=preset)
    note = EvidentlyResult(preset=preset or PRESET, rows=window.num_rows, reference_rows=0, note=reference)
    return note, None
