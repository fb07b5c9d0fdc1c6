"""A column's distribution in the reference and in the window, as HTML of about a kilobyte."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from mlretrain.drift.histogram import Axis, axis, bars
from mlretrain.drift.metrics import measure
from mlretrain.drift.profile import ColumnProfile

_WIDTH, _HEIGHT = 320, 64
_LISTED, _FRESH = 6, 4
_LABEL = 40
_TRACE = 1e-9

STYLE = """
:root{--ref:#94a3b8;--cur:#2563eb}
@media (prefers-color-scheme:dark){:root{--ref:#64748b;--cur:#60a5fa}}
svg{width:100%;height:5rem;display:block;border-bottom:1px solid var(--soft)}.r{fill:var(--ref);opacity:.7}
.c{fill:none;stroke:var(--cur);stroke-width:2;vector-effect:non-scaling-stroke}
.x{position:relative;height:1.2rem;margin:0 0 .25rem;font-size:.75rem;color:var(--soft)}
.x i{position:absolute;font-style:normal;white-space:nowrap}
.v{display:grid;grid-template-columns:fit-content(9rem) 1fr auto;gap:.15rem .5rem;margin:.4rem 0;
font-size:.85rem;align-items:center}
.v b{font-weight:400;overflow:hidden;text-overflow:ellipsis;white-space:nowrap}.v b.new{color:var(--bad)}
.v s{text-decoration:none;display:block}.v s i{display:block;height:.35rem;background:var(--ref)}
.v s i+i{background:var(--cur)}.v em{font-style:normal;color:var(--soft);font-variant-numeric:tabular-nums}
"""


def picture(reference: ColumnProfile | None, current: ColumnProfile | None) -> str:
    """Both distributions on one axis; empty if neither has a value.

    Only the reference's is drawn beside a column that has changed its type.
    """
    columns = [each for each in (reference, current) if each is not None and each.valued > 0]
    if not columns:
        return ""
    if len({each.kind for each in columns}) > 1:
        columns, current = columns[:1], None
    if columns[0].kind == "embedding":
        return _embedding(reference, current)
    if columns[0].listed:
        return _values(reference, current)
    return _histogram(reference, current)


def percent(share: float) -> str:
    """A share with as many digits as a reader needs."""
    return f"{share:.0%}" if share in (0, 1) else "≈0%" if share < 0.0005 else f"{share:.1%}"


def change(old: str, new: str) -> str:
    """What was and what is; once if they are the same."""
    return old if old == new else f"{old} → {new}"


def _histogram(reference: ColumnProfile | None, current: ColumnProfile | None) -> str:
    shown = axis([each for each in (reference, current) if each])
    if shown is None:
        return ""
    old, new = (bars(each, shown) if each else [] for each in (reference, current))
    highest = max((*old, *new)) or 1.0
    paths = f'<path class="r" d="{_steps(old, highest, closed=True)}"/>' if any(old) else ""
    paths += f'<path class="c" d="{_steps(new, highest)}"/>' if any(new) else ""
    scale = "" if shown.even else "<p><small>bars grow wider away from the centre</small></p>"
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="distribution">{paths}</svg>{_ticks(shown)}{scale}'
    )


def _steps(shares: Sequence[float], highest: float, *, closed: bool = False) -> str:
    width = _WIDTH / len(shares)
    path = "".join(
        f"V{_HEIGHT - round(share / highest * (_HEIGHT - 3))}H{round((i + 1) * width)}"
        for i, share in enumerate(shares)
    )
    return f"M0 {_HEIGHT}{path}V{_HEIGHT}" + ("z" if closed else "")


def _ticks(shown: Axis) -> str:
    places = (
        f'<i style="left:{place:.0%};translate:-{place:.0%}">{escape(text)}</i>'
        for place, text in shown.ticks
    )
    return f'<p class="x">{"".join(places)}</p>'


def _values(reference: ColumnProfile | None, current: ColumnProfile | None) -> str:
    """The most frequent and the most changed values in the reference's order, those beyond them, the rest."""
    old, new = _shares(reference), _shares(current)
    beyond = [name for name, _ in current.fresh[:_FRESH]] if current else []
    listed = [name for name in dict.fromkeys((*old, *new)) if name not in beyond]

    def weight(name: str) -> float:
        a, b = old.get(name, 0.0), new.get(name, 0.0)
        return max(a, b) + 3 * abs(a - b)

    chosen = set(sorted(listed, key=weight, reverse=True)[:_LISTED])
    shown = [*(name for name in listed if name in chosen), *beyond]
    highest = max((share for each in (old, new) for name in shown if (share := each.get(name))), default=1.0)
    complete = reference is None or not reference.other
    lines = [
        _value(
            name, old.get(name, 0.0 if complete or name not in beyond else None), new.get(name, 0.0), highest
        )
        for name in shown
    ]
    rest = [
        max(0.0, 1 - math.fsum(each.get(name, 0.0) for name in shown)) if each else 0.0 for each in (old, new)
    ]
    if max(rest) > _TRACE:
        lines.append(f"<b>all others</b><s></s><em>{change(*map(percent, rest))}</em>")
    return f'<div class="v">{"".join(lines)}</div>'


def _value(name: str, old: float | None, new: float, highest: float) -> str:
    """A line of the list; ``old`` is ``None`` for one of the values that the reference has not listed."""
    mark, badge = (' class="new"', "<small>new</small> ") if old == 0 else ("", "")
    both = "".join(f'<i style="width:{(share or 0.0) / highest:.0%}"></i>' for share in (old, new))
    told = escape(name[:_LABEL]) or "<small>empty</small>"
    shares = change("rare" if old is None else percent(old), percent(new))
    return f"<b{mark}>{badge}{told}</b><s>{both}</s><em>{shares}</em>"


def _embedding(reference: ColumnProfile | None, current: ColumnProfile | None) -> str:
    """The projection (or the norm) that moved most, and how far the mean vector has."""
    if reference is None or current is None:
        part = next(iter((reference or current or ColumnProfile(name="", kind="numeric")).parts), None)
        return _histogram(part, None) if reference else _histogram(None, part)
    pairs = [(p, q) for p, q in zip(reference.parts, current.parts, strict=False) if p.valued and q.valued]
    if not pairs:
        return ""
    moved = measure("centroid", reference, current)
    worst = max(pairs, key=lambda pair: measure("ks", *pair))
    return (
        f"<p><small>the mean vector has moved by {percent(moved)} of the mean norm; "
        f"most changed: {escape(worst[0].name)}</small></p>{_histogram(*worst)}"
    )


def _shares(column: ColumnProfile | None) -> dict[str, float]:
    if column is None or not column.valued:
        return {}
    counted = dict(zip(column.categories, column.counts, strict=True)) | dict(column.fresh)
    return {name: rows / column.valued for name, rows in counted.items()}
