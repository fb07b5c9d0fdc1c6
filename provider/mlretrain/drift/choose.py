"""The bins of a profile: those of its reference, or such as its own data asks for, whatever their order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mlretrain.drift.embedding import Embedding
from mlretrain.drift.grid import Grid, choose_grid
from mlretrain.drift.profile import ColumnProfile, DriftProfile
from mlretrain.drift.scan import Scan, digests

_TEXT_LENGTH, _TEXT_DISTINCT, _IDENTIFIERS = 24, 0.5, 1_000
"""Strings are free text when most are distinct and they are long, or too many to be categories."""
_OCTAVE = 8
"""Cells per doubling in the first look at a column."""
_ZOOM, _LOOKS, _ENOUGH = 1_000, 4, 8
"""Cells in a closer look, how often to look closer, and the cells that must part the quartiles."""

Look = list[tuple[float, float, int]]
"""Cells as (least value, largest value, rows), ascending."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Chooses bins for the columns of a scan.

    :param top: categories that are counted one by one.
    :param sensitive: columns of which only digests are kept.
    """

    scan: Scan
    top: int
    sensitive: Sequence[str] = ()

    def bins(self, reference: DriftProfile | None) -> tuple[ColumnProfile, ...]:
        """Profiles of no rows: with the reference's bins, and new ones for columns it does not know."""
        return tuple(
            (reference and self._like(reference.column(name), name)) or self._chosen(name)
            for name in self.scan.names
        )

    def _like(self, known: ColumnProfile | None, name: str) -> ColumnProfile | None:
        """The reference's bins; none if its values were of another kind."""
        found = self.scan.kind(name)
        alike = ({known.kind, found} if known else set()) <= {"categorical", "text"}
        if known is None or (found is not None and known.kind != found and not alike):
            return None
        return ColumnProfile(
            name=name,
            kind=known.kind,
            distinct=known.distinct,
            grid=known.grid,
            categories=known.categories,
            counts=(0,) * len(known.categories),
            salt=known.salt,
            dimension=known.dimension,
            parts=tuple(ColumnProfile(name=p.name, kind=p.kind, grid=p.grid) for p in known.parts),
        )

    def _chosen(self, name: str) -> ColumnProfile:
        kind, salt = self.scan.kind(name), name if name in self.sensitive else None
        column = ColumnProfile(name=name, kind=kind or "categorical", salt=salt)
        if kind == "embedding":
            embedding = Embedding.first_seen(self.scan, name)
            parts = Choice(scan=embedding.parts(), top=self.top).bins(None)
            return replace(column, dimension=embedding.dimension, parts=parts)
        if not column.listed:
            return replace(column, grid=self._grid(column))
        value, table = self.scan.value(column), self.scan.source.table
        found: list[Any] = self.scan.source.query(
            f"SELECT v, n, sum(n) OVER (), count(*) OVER (), sum(n * length(v)) OVER () "  # noqa: S608
            f"FROM (SELECT {value} AS v, count(*) AS n FROM {table} GROUP BY 1) AS counted "
            f"WHERE v IS NOT NULL ORDER BY n DESC, v LIMIT {int(self.top)}"
        )
        if not found:
            return column
        rows, distinct, length = (int(each) for each in found[0][2:])
        long = length > _TEXT_LENGTH * rows or distinct > _IDENTIFIERS
        if kind == "categorical" and long and distinct > _TEXT_DISTINCT * rows:
            text = replace(column, kind="text")
            return replace(text, grid=self._grid(text))
        names = digests(column, [row[0] for row in found])
        return replace(column, distinct=distinct, categories=tuple(names), counts=(0,) * len(names))

    def _grid(self, column: ColumnProfile) -> Grid:
        """A grid from the quartiles, which are found by looking closer and closer."""
        x = self.scan.value(column)
        look = self._first_look(x)
        if not look:
            return Grid(center=0.0, scale=1.0)
        for _ in range(_LOOKS):
            low, high = _cell_at(look, 0.25)[0], _cell_at(look, 0.75)[1]
            if not high > low or sum(low <= a <= high for a, *_ in look) > _ENOUGH:
                break
            look = self._closer(x, low, high, look)
        quartiles = [_at(look, share) for share in (0.25, 0.5, 0.75)]
        return choose_grid(quartiles, widest=_at(look, 0.975) - _at(look, 0.025))

    def _first_look(self, x: str) -> Look:
        """Cells of equal ratio, which any number fits in."""
        octave = f"CASE WHEN x = 0 THEN 0 ELSE floor({_OCTAVE} * ln(abs(x)) / {math.log(2)!r}) END"
        found: list[Any] = self.scan.source.query(
            f"SELECT sign(x), {octave}, min(x), max(x), count(*) FROM (SELECT {x} AS x FROM "  # noqa: S608
            f"{self.scan.source.table}) AS numbers WHERE abs(x) < 1e150 GROUP BY 1, 2"
        )
        return sorted((float(low), float(high), int(n)) for _, _, low, high, n in found)

    def _closer(self, x: str, low: float, high: float, look: Look) -> Look:
        """The cells between ``low`` and ``high`` replaced by finer ones of equal width."""
        number = self.scan.dialect.number
        step = (high - low) / _ZOOM
        if not step > 0:
            return look
        found: list[Any] = self.scan.source.query(
            f"SELECT floor((x - {number(low)}) / {number(step)}), min(x), max(x), count(*) FROM "  # noqa: S608
            f"(SELECT {x} AS x FROM {self.scan.source.table}) AS numbers "
            f"WHERE x >= {number(low)} AND x <= {number(high)} GROUP BY 1"
        )
        finer = [(float(a), float(b), int(n)) for _, a, b, n in found]
        return sorted([*finer, *(each for each in look if each[1] < low or each[0] > high)])


def _at(look: Look, share: float) -> float:
    low, high, _ = _cell_at(look, share)
    return low + (high - low) / 2


def _cell_at(look: Look, share: float) -> tuple[float, float, int]:
    wanted = share * sum(n for *_, n in look)
    below = 0
    for cell in look:
        below += cell[2]
        if below >= wanted:
            return cell
    return look[-1]
