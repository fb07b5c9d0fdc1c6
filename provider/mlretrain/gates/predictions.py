"""How far a version's predictions are from the champion's, from the log of what both have answered.

The log is Parquet (or CSV) with one row per prediction and the columns that ``mlretrain serve`` writes:
``prediction``, ``model_version``, a time, and ``request_id`` if rows come in batches. What a mirrored version
predicted is in the folder ``.mirrored`` beside what was served.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mlretrain.errors import ConfigError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

    from mlretrain.drift.profile import ColumnProfile

VERSION = "model_version"
PREDICTION = "prediction"
REQUEST = "request_id"
MIRRORED = ".mirrored"
MEMORY = "1GB"
OPTIONS = ("uri", "time_column", "format")

LOOKS = 10
"""The noise is that of so many looks together: one looks again and again while the log grows."""

_DATE = re.compile(r"/date=(\d{4}-\d{2}-\d{2})/part-[^/]*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionShift:
    """How far two sets of predictions are apart, between 0 and 1.

    :param effect: the Jensen–Shannon distance, less what so few predictions of one distribution show on
        average; or the difference of the shares of predictions that are missing, if that is larger.
    :param certain: what so few predictions of one distribution do not show even by bad luck.
    :param rows: predictions of the version.
    :param champion_rows: of the champion.
    """

    effect: float
    certain: float
    rows: int
    champion_rows: int


class PredictionLog:
    """What was predicted, wherever it is kept.

    :param uri: a file, a folder or a glob, ``file://`` or ``s3://``.
    :param time_column: when each row was answered.
    :param format: ``parquet`` or ``csv``; by default as the files are named.
    :param env: environment variables that open S3; by default the process's own.
    """

    def __init__(
        self,
        uri: str,
        *,
        time_column: str = "served_at",
        format: str | None = None,  # noqa: A002 - the name in the YAML
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.uri = uri
        self._time_column = time_column
        self._format = format
        self._env = env

    @classmethod
    def of(cls, options: Mapping[str, Any], env: Mapping[str, str] | None = None) -> PredictionLog:
        """The log that ``{uri, time_column, format}`` describes; raises ``ConfigError`` for anything else."""
        given = {name: value for name, value in options.items() if value is not None}
        if "uri" not in given or not set(given) <= set(OPTIONS):
            raise ConfigError(
                "no prediction log that can be read", found=", ".join(given), allowed=", ".join(OPTIONS)
            )
        return cls(env=env, **given)

    def shift(
        self, version: str, champion: str, since: datetime, *, mirrored: bool = False
    ) -> PredictionShift | None:
        """Of the predictions since an instant; ``None`` while there are none of one side.

        :param mirrored: whether the version's answers were given to nobody.
        :raises InvalidInput: the log cannot be read.
        :raises TransientError: S3 does not answer.
        """
        from mlretrain.data.read import connect, reading

        with connect(MEMORY) as con, reading(self.uri):
            theirs = self._rows(con, self.uri, champion, since)
            ours = self._rows(con, self._mirror() if mirrored else self.uri, version, since)
            return None if ours is None or theirs is None else _measure(ours, theirs)

    def _rows(
        self, con: DuckDBPyConnection, uri: str, version: str, since: datetime
    ) -> DuckDBPyRelation | None:
        """Predictions of one version, with their requests; ``None`` if there is no file yet."""
        from mlretrain.data.dataset import DataFile
        from mlretrain.data.files import find
        from mlretrain.data.read import scan
        from mlretrain.data.time_window import TimeColumn, check_column, literal

        uris = _recent(find(uri, self._env), since)
        if not uris:
            return None
        is_csv = self._format == "csv" or (self._format is None and ".csv" in uris[0].rpartition("/")[2])
        files = [DataFile(uri=each, size=0, etag="") for each in uris]
        relation = scan(con, files, "csv" if is_csv else "parquet", self._env)
        for name in (PREDICTION, VERSION):
            check_column(name, relation.columns, uri)
        within = TimeColumn(relation, self._time_column, uri).at_or_after(since)
        request = REQUEST if REQUEST in relation.columns else "NULL"
        return relation.filter(f"{within} AND CAST({VERSION} AS VARCHAR) = {literal(version)}").project(
            f"{PREDICTION}, {request} AS {REQUEST}"
        )

    def _mirror(self) -> str:
        """The folder of what was mirrored: in the last one that the URI names without a wildcard."""
        start = re.split(r"[*?[]", self.uri, maxsplit=1)[0]
        if start == self.uri and not self.uri.endswith((".parquet", ".csv")):
            return f"{self.uri.rstrip('/')}/{MIRRORED}"
        return f"{start.rpartition('/')[0]}/{MIRRORED}"


def _recent(uris: Iterable[str], since: datetime) -> list[str]:
    """Those that the server has not put in the folder of an earlier day."""
    first = f"{since.astimezone(UTC):%Y-%m-%d}"
    dates = ((uri, _DATE.search(uri)) for uri in uris)
    return [uri for uri, date in dates if date is None or date[1] >= first]


def _measure(ours: DuckDBPyRelation, theirs: DuckDBPyRelation) -> PredictionShift | None:
    from mlretrain.drift.profile import build_profile

    reference = build_profile(theirs, include=(PREDICTION,))
    current = build_profile(ours, include=(PREDICTION,), reference=reference)
    was, now = reference.column(PREDICTION), current.column(PREDICTION)
    if not reference.rows or not current.rows or was is None or now is None:
        return None
    batch = max(_rows_per_request(ours), _rows_per_request(theirs))
    effects = _effects(was, now, batch)
    return PredictionShift(
        effect=max(effect for effect, _ in effects),
        certain=max(0.0, *(certain for _, certain in effects)),
        rows=current.rows,
        champion_rows=reference.rows,
    )


def _effects(was: ColumnProfile, now: ColumnProfile, batch: float) -> list[tuple[float, float]]:
    """Each effect with what is certain of it; predictions of another kind are wholly others.

    :param batch: predictions that count as one.
    """
    from mlretrain.drift.metrics import measure
    from mlretrain.drift.noise import sampling_noise

    if now.valued and was.valued and now.kind != was.kind:
        return [(1.0, 1.0)]
    distance, missing = measure("jensen_shannon", was, now), measure("missing_rate", was, now)
    distance_noise = sampling_noise("jensen_shannon", was, now, comparisons=LOOKS) * math.sqrt(batch)
    missing_noise = sampling_noise("missing_rate", was, now, comparisons=LOOKS) * math.sqrt(batch)
    usual = batch * _usual_divergence(was, now)
    return [
        (math.sqrt(max(0.0, distance**2 - usual)), distance - distance_noise),
        (missing, missing - missing_noise),
    ]


def _usual_divergence(was: ColumnProfile, now: ColumnProfile) -> float:
    """The mean of the divergence of two samples of one distribution: 8 n ln 2 times it is chi-squared.

    n is the harmonic sum of both numbers of rows (Menéndez et al., "The Jensen-Shannon divergence", Journal
    of the Franklin Institute 334, 1997).
    """
    from mlretrain.drift.bins import align, group

    if not was.valued or not now.valued:
        return 0.0
    pair = group(align(was, now))
    freedom = sum(a + b > 0 for a, b in zip(pair.reference, pair.current, strict=True)) - 1
    return freedom * (1 / was.valued + 1 / now.valued) / (8 * math.log(2))


def _rows_per_request(relation: Any) -> float:
    """Rows of one request stand for less than as many rows of their own."""
    rows, requests = relation.aggregate(f"count(*), count(DISTINCT {REQUEST})").fetchall()[0]
    return float(rows / requests) if requests else 1.0
