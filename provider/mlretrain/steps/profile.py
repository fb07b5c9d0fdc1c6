"""The profile step: a small sketch of a window's columns, on the reference's own bins."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlretrain.data.dataset import read_dataset
from mlretrain.drift.profile import PROFILE_VERSION, TOP_CATEGORIES, DriftProfile
from mlretrain.errors import ConfigError, ContractError, InvalidInput, NotFound
from mlretrain.runtime.store import read_uri
from mlretrain.steps.row_measures import RowMeasures, measure_rows
from mlretrain.wire import from_wire, pretty

if TYPE_CHECKING:
    import pyarrow as pa

    from mlretrain.runtime.context import StepContext

logger = logging.getLogger("mlretrain")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Which columns of which data.

    :param include: the columns; all if ``None``.
    :param reference_uris: profiles whose bins and categories are used, such as the champion's features and
        its predictions; a column in several has those of the first. Without ``include`` their columns are
        profiled, so that the serving log's own columns are not.
    :param against_uri: the dataset of another window, which this one will be compared with and which is
        profiled too.
    :param chunk_s: the span, in seconds, of the time chunks from which a profile that will be a reference
        learns its noise.
    :param top: categories that are kept by name.
    :param sensitive: columns of which only digests are kept.
    :param rows: what is measured on rows too; none: nothing.
    """

    dataset_uri: str
    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    reference_uris: tuple[str, ...] = ()
    against_uri: str | None = None
    chunk_s: float | None = None
    top: int = TOP_CATEGORIES
    sensitive: tuple[str, ...] = ()
    rows: RowMeasures | None = None


def run(config: Config, ctx: StepContext) -> dict[str, Any]:
    """One scan of the data, in bounded memory; the profile is kept as ``profile.json``.

    Data or a reference that cannot be read is a finding, not a failure: ``unknown`` says why there is no
    profile. What may pass, such as storage that is away, is raised.

    :raises ConfigError: a column of ``include`` does not exist.
    """
    try:
        return _profile(config, ctx)
    except (InvalidInput, ContractError, NotFound) as error:
        logger.warning("The window cannot be profiled: %s", error)
        return {"profile_uri": None, "rows": 0, "unknown": str(error)}


def _profile(config: Config, ctx: StepContext) -> dict[str, Any]:
    reference = read_reference(config.reference_uris, ctx.env)
    result: dict[str, Any] = {}
    against: pa.Table | None = None
    if config.against_uri is not None:
        reference, against = _count(config, ctx, config.against_uri, reference)
        result["reference_profile_uri"] = ctx.write_output("reference", "reference.json", pretty(reference))
    profile, window = _count(config, ctx, config.dataset_uri, reference)
    if config.rows is not None and window is not None:
        result |= measure_rows(config.rows, ctx, window=window, against=against)
    uri = ctx.write_output("profile", "profile.json", pretty(profile))
    return {**result, "profile_uri": uri, "rows": profile.rows}


def _count(
    config: Config, ctx: StepContext, uri: str, reference: DriftProfile | None
) -> tuple[DriftProfile, pa.Table | None]:
    """The profile of a dataset, and of its rows those that are drawn where a measure needs rows."""
    from mlretrain.data.read import connect, open_columns, reading
    from mlretrain.drift.profile import build_profile
    from mlretrain.drift.sample import draw

    dataset = read_dataset(uri, ctx.env)
    with connect() as con, ctx.phase("profile"), open_columns(con, dataset, ctx.env) as relation:
        include = chosen_columns(config.include, relation.columns, reference)
        with reading(dataset.uri):
            profile = build_profile(
                relation,
                include=include,
                exclude=config.exclude,
                time_column=dataset.time_column,
                chunk_s=config.chunk_s if dataset.time_column else None,
                top=config.top,
                sensitive=config.sensitive,
                reference=reference,
            )
            if config.rows is None:
                return profile, None
            names = [each.name for each in profile.columns if each.salt is None]
            return profile, draw(relation, names, rows=config.rows.rows, time_column=dataset.time_column)


def chosen_columns(
    include: Sequence[str] | None, columns: Sequence[str], reference: DriftProfile | None
) -> tuple[str, ...] | None:
    """Those asked for, else those of the reference that the data has, else all.

    :raises ConfigError: one that was asked for does not exist.
    """
    if include is not None:
        missing = [each for each in include if each not in columns]
        if missing:
            raise ConfigError(
                "columns that are not in the data",
                where="columns.include",
                found=", ".join(missing),
                allowed=", ".join(columns),
            )
        return tuple(include)
    if reference is None:
        return None
    known = {column.name for column in reference.columns}
    return tuple(each for each in columns if each in known)


def read_reference(uris: Sequence[str], env: Mapping[str, str] | None) -> DriftProfile | None:
    """The columns of all profiles at ``uris`` as one; the first profile's wins."""
    profiles = [read_profile(uri, env) for uri in uris]
    if not profiles:
        return None
    columns = {column.name: column for profile in reversed(profiles) for column in profile.columns}
    return dataclasses.replace(profiles[0], columns=tuple(columns.values()))


def read_profile(uri: str, env: Mapping[str, str] | None) -> DriftProfile:
    """The profile kept at ``uri``.

    :raises ContractError: there is something else, or a profile of another version.
    :raises NotFound: there is nothing.
    """
    try:
        content = json.loads(read_uri(uri, env))
        version = content.get("version") if isinstance(content, dict) else None
        if version == PROFILE_VERSION:
            return from_wire(DriftProfile, content)
    except (ValueError, ContractError) as error:
        raise ContractError("not a drift profile", where=uri, found=str(error)) from error
    raise ContractError(
        "not a drift profile of this version",
        where=uri,
        found=f"version {version}",
        allowed=f"version {PROFILE_VERSION}",
        remedy="Retrain the model, or profile the data again.",
    )
