"""The page for people about one window: the verdict, then each column's two distributions side by side.

One self-contained HTML document: no script, no network, everything from the data escaped, about 2 kB a
column.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from mlretrain.drift.metrics import shares
from mlretrain.drift.policy import ColumnDrift, DriftReport
from mlretrain.drift.profile import ColumnProfile, DriftProfile
from mlretrain.verdict import number

_WIDTH, _HEIGHT = 320, 64
_BARS = 8
_LABEL = 40

_STYLE = """
:root{color-scheme:light dark;--ref:#94a3b8;--cur:#2563eb;--bad:#b91c1c;--good:#15803d;--line:#cbd5e1}
@media (prefers-color-scheme:dark){:root{
--ref:#64748b;--cur:#60a5fa;--bad:#f87171;--good:#4ade80;--line:#334155}}
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;padding:1rem;max-width:72rem;overflow-wrap:anywhere}
h1{font-size:1.3rem;margin:0}h2{font-size:1rem;margin:0}
main{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,19rem),1fr));gap:1rem}
section{border:1px solid var(--line);border-radius:.5rem;padding:.75rem}
section.drifted{border-color:var(--bad)}p{margin:.25rem 0}small{opacity:.75}
.drift,.drifted h2{color:var(--bad)}.stable{color:var(--good)}
svg{width:100%;height:4rem;display:block}.r{fill:var(--ref)}.c{fill:none;stroke:var(--cur);stroke-width:2}
.b{display:block;height:.4rem;min-width:1px}.b.ref{background:var(--ref)}.b.cur{background:var(--cur)}
dl{margin:.25rem 0}dd{margin:0 0 .25rem}dt{font-size:.8rem}.k{display:inline-block;width:.8rem;height:.8rem}
"""


def render_html(report: DriftReport, reference: DriftProfile, current: DriftProfile, title: str) -> str:
    """The page on ``report``; the profiles are those that it compared.

    :param title: which window of which pipeline, beside which version.
    """
    judged = [*([report.prediction] if report.prediction else []), *report.columns]
    cards = "".join(_card(each, reference.column(each.name), current.column(each.name)) for each in judged)
    lists = _list("New columns, not judged", report.new_columns)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
        f'<header><h1>{escape(title)}</h1><p><strong class="{report.verdict}">{report.verdict}</strong>: '
        f"{escape(report.summary)}</p><p><small>{_span(report)}{report.rows:,} rows beside "
        f"{report.reference_rows:,} of the reference · a column drifts when its effect exceeds its tolerance "
        f"and its noise</small></p>{lists}"
        '<p><i class="k" style="background:var(--ref)"></i> reference '
        '<i class="k" style="background:var(--cur)"></i> this window</p></header>'
        f"<main>{cards}</main></body></html>\n"
    )


def _span(report: DriftReport) -> str:
    if report.start is None or report.end is None:
        return ""
    return f"{report.start:%Y-%m-%d %H:%M} to {report.end:%Y-%m-%d %H:%M} UTC · "


def _list(title: str, names: Sequence[str]) -> str:
    return f"<p><small>{title}: {escape(', '.join(names))}</small></p>" if names else ""


def _card(drift: ColumnDrift, reference: ColumnProfile | None, current: ColumnProfile | None) -> str:
    mark = ' class="drifted"' if drift.drifted else ""
    chart = ""
    if reference is not None and reference.valued:
        chart = _categories(reference, current) if reference.categories else _histogram(reference, current)
    tolerance = f"tolerance {number(drift.threshold)}, noise {number(drift.noise)}"
    return (
        f"<section{mark}><h2>{escape(drift.name)}</h2><p>{escape(str(drift)[:200])}</p>{chart}"
        f"<p><small>{drift.kind} · {tolerance} · missing {drift.reference_missing_rate:.1%} → "
        f"{drift.missing_rate:.1%}{_moments(reference, current)}</small></p></section>"
    )


def _moments(reference: ColumnProfile | None, current: ColumnProfile | None) -> str:
    if reference is None or current is None or reference.mean is None or current.mean is None:
        return ""
    return f" · mean {number(reference.mean)} → {number(current.mean)}"


def _comparable(reference: ColumnProfile, current: ColumnProfile | None) -> bool:
    return current is not None and bool(current.valued) and current.kind == reference.kind


def _histogram(reference: ColumnProfile, current: ColumnProfile | None) -> str:
    """Shares in the reference's quantile bins, each drawn equally wide."""
    pairs = [(shares(reference), "r", True)]
    if current is not None and _comparable(reference, current):
        pairs.append((shares(current, reference), "c", False))
    highest = max(max(values) for values, _, _ in pairs) or 1.0
    paths = "".join(
        f'<path class="{name}" d="{_steps(values, highest, closed=closed)}"/>'
        for values, name, closed in pairs
    )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="shares per quantile bin of the reference">{paths}</svg>'
        f"<small>quantile bins from {number(reference.minimum)} to {number(reference.maximum)}</small>"
    )


def _steps(values: Sequence[float], highest: float, *, closed: bool) -> str:
    width = _WIDTH / len(values)
    path = "".join(
        f"V{_HEIGHT - round(value / highest * (_HEIGHT - 2))}H{round((i + 1) * width)}"
        for i, value in enumerate(values)
    )
    return f"M0 {_HEIGHT}{path}" + (f"V{_HEIGHT}z" if closed else "")


def _categories(reference: ColumnProfile, current: ColumnProfile | None) -> str:
    """The categories whose shares differ most, then the most frequent ones."""
    p = shares(reference)
    q = [0.0] * len(p)
    if current is not None and _comparable(reference, current):
        q = shares(current, reference)
    rows = sorted(
        zip([*reference.categories, "any other value"], p, q, strict=True),
        key=lambda row: (-abs(row[1] - row[2]), -row[1], row[0]),
    )
    bars = "".join(
        f"<dt>{escape(name[:_LABEL])} <small>{a:.1%} → {b:.1%}</small></dt>"
        f'<dd><i class="b ref" style="width:{a:.0%}"></i><i class="b cur" style="width:{b:.0%}"></i></dd>'
        for name, a, b in rows[:_BARS]
    )
    return f"<dl>{bars}</dl>"
