"""Profiling: a small sketch of a window of data, for drift to be measured on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from mlretrain import wire
from mlretrain.drift.evidently import REQUIREMENTS
from mlretrain.errors import ConfigError, InvalidInput
from mlretrain.ports import CHAMPION, ModelVersion
from mlretrain.runtime.contract import StepRequest
from mlretrain_provider.durations import duration
from mlretrain_provider.operators.data import dataset_uri, resolve_window, snapshot_path
from mlretrain_provider.operators.pipeline import PipelineOperator, Upstream
from mlretrain_provider.operators.step import StepOperator
from mlretrain_provider.run import RunIdentity

if TYPE_CHECKING:
    from airflow.sdk import Context

MLRETRAIN, EVIDENTLY = "mlretrain", "evidently"
PREVIOUS_WINDOW = "previous_window"
SAME_WINDOW_LAST = "same_window_last_s"

Reference = str | Sequence[str] | Mapping[str, float] | None
"""What a window is compared with."""


class ProfileDataOperator(StepOperator):
    """Profile a window of data in one scan.

    Returns ``{profile_uri, rows, dataset_uri, start, end}``, and with another window as the reference
    ``{reference_profile_uri, against}`` too, with what is measured on rows ``domain_uri``, ``evidently_uri``
    and ``evidently_page_uri``. A window that cannot be read is a finding, not a failure: then
    ``profile_uri`` is none and ``unknown`` says why. Idempotent as every :class:`StepOperator`.

    :param dataset: what :class:`ResolveDataOperator` returned; or give ``uri``.
    :param uri: a file, a glob or a folder, resolved here.
    :param time_column: the column that holds each row's time.
    :param window: length of the window that ends at the run's window end, in seconds or as ``"7d"``.
    :param format: ``parquet`` or ``csv``; none: by the files' names.
    :param columns: ``{include, exclude}``; none: the columns of the reference, else every column.
    :param reference: what the window will be compared with, in whose bins it is counted: ``champion``, or
        URIs of profiles; ``previous_window``, or ``{same_window_last_s: seconds}``, which are profiled beside
        it; none: bins of its own.
    :param top: categories that are kept by name.
    :param sensitive: columns of which only digests are kept.
    :param domain: ``{rows}``: look for shifts that no column shows, in so many rows; none: do not.
    :param engine: ``mlretrain``; or ``evidently``, which is asked about the columns too, in an environment of
        the job's own that has ``requirements`` (none: the release that is tested).
    :param preset: ``package.module:function`` that returns an ``evidently.Report``; none: Evidently's
        ``DataDriftPreset``.
    """

    step = "profile"
    template_fields = (
        *StepOperator.template_fields,
        "dataset",
        "uri",
        "time_column",
        "window",
        "format",
        "columns",
        "reference",
        "top",
        "sensitive",
        "domain",
        "engine",
        "preset",
    )

    def __init__(
        self,
        *,
        dataset: Upstream = None,
        uri: str | None = None,
        time_column: str | None = None,
        window: float | str | None = None,
        format: str | None = None,  # noqa: A002
        columns: Mapping[str, Sequence[str]] | None = None,
        reference: Reference = CHAMPION,
        top: int | None = None,
        sensitive: Sequence[str] = (),
        domain: Mapping[str, Any] | None = None,
        engine: str = MLRETRAIN,
        preset: str | None = None,
        **kwargs: Any,
    ) -> None:
        if engine == EVIDENTLY and kwargs.get("requirements") is None:
            kwargs["requirements"] = list(REQUIREMENTS)
        super().__init__(**kwargs)
        self.dataset = dataset
        self.uri = uri
        self.time_column = time_column
        self.window = window
        self.format = format
        self.columns = columns
        self.reference = reference
        self.top = top
        self.sensitive = sensitive
        self.domain = domain
        self.engine = engine
        self.preset = preset

    def perform(self, run: RunIdentity, context: Context) -> dict[str, Any]:
        shift = window_shift(self.reference, self.window, self.task_id)
        try:
            self._dataset_uri = self._resolved(run)
            self._against_uri = None if shift is None else self._snapshot(run, run.window_end - shift)
        except InvalidInput as error:
            self.log.warning("Nothing to measure up to %s: %s", run.window_end, error)
            return unknown_profile(str(error), run.window_end, self.window)
        return super().perform(run, context)

    def config(self, run: RunIdentity, context: Context) -> dict[str, Any]:
        columns = self.columns or {}
        return {
            "dataset_uri": self._dataset_uri,
            "include": columns.get("include"),
            "exclude": columns.get("exclude") or (),
            "reference_uris": reference_uris(self, self.reference, self.window),
            **({"against_uri": self._against_uri} if self._against_uri else {}),
            **({"top": self.top} if self.top is not None else {}),
            **({"sensitive": list(self.sensitive)} if self.sensitive else {}),
            **self._row_measures(),
        }

    def _row_measures(self) -> dict[str, Any]:
        """What is measured on rows, beside the sample that the champion's training has kept."""
        if self.engine not in (MLRETRAIN, EVIDENTLY):
            raise ConfigError(
                "an unknown engine",
                where=self.task_id,
                found=self.engine,
                allowed=f"{MLRETRAIN}, {EVIDENTLY}",
            )
        if self.domain is None and self.engine == MLRETRAIN:
            return {}
        champion = self.registry.version(self.pipeline, f"@{CHAMPION}")
        rows = (self.domain or {}).get("rows")
        return {
            "rows": {
                "sample_uri": champion.tags.get("mlretrain.sample_uri") if champion else None,
                **({"rows": int(rows)} if rows is not None else {}),
                "domain": self.domain is not None,
                "evidently": self.engine == EVIDENTLY,
                "preset": self.preset,
            }
        }

    def finish(self, request: StepRequest, result: Mapping[str, Any]) -> dict[str, Any]:
        dataset = self.read_json(self._dataset_uri)
        against = against_words(self.reference)
        return {
            **result,
            "dataset_uri": self._dataset_uri,
            "start": dataset["start"],
            "end": dataset["end"],
            **({"against": against} if against else {}),
        }

    def _resolved(self, run: RunIdentity) -> str:
        if self.dataset is not None:
            return dataset_uri(self.dataset)
        return self._snapshot(run, run.window_end)

    def _snapshot(self, run: RunIdentity, end: datetime) -> str:
        """The data of the window that ends at ``end``, as it was when this run first looked."""
        if self.uri is None:
            raise ConfigError("nothing to profile", where=self.task_id, remedy="Give uri, or dataset.")
        asked = (self.uri, self.time_column, self.window, self.format)
        shifted = () if end == run.window_end else (end.isoformat(),)
        path = snapshot_path(self, run, *asked, *shifted)
        self.once(path, lambda: wire.to_wire(self._window(str(self.uri), end)))
        return self.artifact_uri(path)

    def _window(self, uri: str, end: datetime) -> Any:
        return resolve_window(
            uri=uri,
            time_column=self.time_column,
            window=self.window,
            format=self.format,
            end=end,
            env=self.storage_env or None,
        )


def reference_uris(operator: PipelineOperator, reference: Reference, window: float | str | None) -> list[str]:
    """The profiles in whose bins a window is counted: the champion's also beside another window."""
    if reference == CHAMPION or window_shift(reference, window, operator.task_id) is not None:
        champion = operator.registry.version(operator.pipeline, f"@{CHAMPION}")
        return profile_uris(champion) if champion else []
    given: Any = reference or ()
    return [given] if isinstance(given, str) else list(given)


def window_shift(reference: Reference, window: float | str | None, where: str) -> timedelta | None:
    """How far back the window is that this one is compared with; ``None`` if it is not another window."""
    if reference == PREVIOUS_WINDOW:
        if window is None:
            raise ConfigError(
                "there is no previous window of all data", where=where, remedy="Give the window's length."
            )
        return duration(window, "window")
    if isinstance(reference, Mapping):
        if list(reference) != [SAME_WINDOW_LAST]:
            raise ConfigError(
                "not a reference",
                where=where,
                found=", ".join(map(str, reference)),
                allowed=f"champion, {PREVIOUS_WINDOW}, {{{SAME_WINDOW_LAST}: seconds}}, or URIs",
            )
        return duration(reference[SAME_WINDOW_LAST], SAME_WINDOW_LAST)
    return None


def against_words(reference: Reference) -> str | None:
    """What the window is compared with, if that is another window."""
    if reference == PREVIOUS_WINDOW:
        return "the window before"
    if isinstance(reference, Mapping):
        return f"the same window {reference[SAME_WINDOW_LAST] / 86_400:g} days earlier"
    return None


def unknown_profile(reason: str, end: datetime, window: float | str | None) -> dict[str, Any]:
    """The result for a window that cannot be profiled."""
    start = end - duration(window, "window") if window is not None else None
    return {
        "profile_uri": None,
        "rows": 0,
        "unknown": reason,
        "start": start.isoformat() if start else None,
        "end": end.isoformat(),
    }


def profile_uris(version: ModelVersion) -> list[str]:
    """The profiles of a version's training data and, if there is one, of its predictions."""
    if "mlretrain.profile_uri" not in version.tags:
        raise ConfigError(
            "the champion has no profile of its training data",
            where=f"{version.name} version {version.version}",
            remedy="Retrain it through the pipeline, or tag the version with mlretrain.profile_uri.",
        )
    names = ("mlretrain.profile_uri", "mlretrain.prediction_profile_uri")
    return [version.tags[name] for name in names if name in version.tags]
