"""The profile step: a small sketch of a window's columns, on the reference's own bins."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlretrain.data.dataset import read_dataset
from mlretrain.drift.profile import DriftProfile
from mlretrain.errors import ContractError
from mlretrain.runtime.store import read_uri
from mlretrain.wire import from_wire, pretty

if TYPE_CHECKING:
    from mlretrain.runtime.context import StepContext


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Which columns of which data.

    :param include: the columns; all if ``None``.
    :param reference_uris: profiles whose bins and categories are used, such as the champion's features and
        its predictions; a column in several has those of the first. Without ``include`` their columns are
        profiled, so that the serving log's own columns are not.
    :param chunk_s: the span, in seconds, of the time chunks from which a profile that will be a reference
        learns its noise.
    """

    dataset_uri: str
    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    reference_uris: tuple[str, ...] = ()
    chunk_s: float | None = None


def run(config: Config, ctx: StepContext) -> dict[str, Any]:
    """One scan of the data, in bounded memory; the profile is kept as ``profile.json``."""
    from mlretrain.data.read import connect, open_relation
    from mlretrain.drift.profile import build_profile

    dataset = read_dataset(config.dataset_uri, ctx.env)
    reference = read_reference(config.reference_uris, ctx.env)
    with connect() as con, ctx.phase("profile"):
        relation = open_relation(con, dataset, ctx.env)
        include = config.include
        if include is None and reference is not None:
            known = {column.name for column in reference.columns}
            include = tuple(each for each in relation.columns if each in known)
        profile = build_profile(
            con,
            relation,
            include=include,
            exclude=config.exclude,
            time_column=dataset.time_column,
            chunk_s=config.chunk_s if dataset.time_column else None,
            reference=reference,
        )
    return {
        "profile_uri": ctx.write_output("profile", "profile.json", pretty(profile)),
        "rows": profile.rows,
    }


def read_reference(uris: Sequence[str], env: Mapping[str, str]) -> DriftProfile | None:
    """The columns of all profiles at ``uris`` as one; the first profile's wins."""
    profiles = [_read(uri, env) for uri in uris]
    if not profiles:
        return None
    columns = {column.name: column for profile in reversed(profiles) for column in profile.columns}
    return dataclasses.replace(profiles[0], columns=tuple(columns.values()))


def _read(uri: str, env: Mapping[str, str]) -> DriftProfile:
    try:
        return from_wire(DriftProfile, json.loads(read_uri(uri, env)))
    except ValueError as error:
        raise ContractError("not a drift profile", where=uri, found=str(error)) from error
