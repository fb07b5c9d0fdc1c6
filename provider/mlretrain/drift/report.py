"""The page for people about one window: the verdict, then each column's two distributions side by side.

One self-contained HTML document: no script, no network, everything from the data escaped, about 2 kB a
column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from types import MappingProxyType

from mlretrain.drift.metrics import shares
from mlretrain.drift.policy import ColumnDrift, DriftReport
from mlretrain.drift.profile import ColumnProfile, DriftProfile
from mlretrain.page import Tone, page
from mlretrain.verdict import Drift, number

_WIDTH, _HEIGHT = 320, 64
_BARS = 5
_LABEL = 40
_VERDICTS: Mapping[Drift, tuple[str, Tone]] = MappingProxyType(
    {
        "drift": ("This window has drifted", "bad"),
        "stable": ("No drift", "good"),
        "insufficient": ("Too little data to judge", "neutral"),
    }
)
_STYLE = """
:root{--ref:#94a3b8;--cur:#2563eb}
@media (prefers-color-scheme:dark){:root{--ref:#64748b;--cur:#60a5fa}}
main{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,20rem),1fr));gap:1rem;
align-items:start}
section{border:1px solid var(--line);border-radius:.5rem;padding:.75rem}
section.drifted{border-color:var(--bad)}.drifted h2{color:var(--bad)}
svg{width:100%;height:4rem;display:block}.r{fill:var(--ref)}
.c{fill:none;stroke:var(--cur);stroke-width:2;vector-effect:non-scaling-stroke}
.b{display:block;height:.4rem;min-width:1px}.b.ref{background:var(--ref)}.b.cur{background:var(--cur)}
dl{margin:.25rem 0}dd{margin:0 0 .25rem}dt{font-size:.85rem}.k{display:inline-block;width:.8rem;height:.8rem}
"""


def render_html(report: DriftReport, reference: DriftProfile, current: DriftProfile, title: str) -> str:
    """The page on ``report``; the profiles are those that it compared.

    :param title: which window of which pipeline, beside which version.
    """
    judged = [*([report.prediction] if report.prediction else []), *report.columns]
    cards = "".join(_card(each, reference.column(each.name), current.column(each.name)) for each in judged)
    verdict, tone = _VERDICTS[report.verdict]
    legend = (
        '<p><i class="k" style="background:var(--ref)"></i> training data '
        '<i class="k" style="background:var(--cur)"></i> this window '
        "<small>· a column has drifted when its effect is larger than its tolerance and its usual noise"
        "</small></p>"
    )
    return page(
        title=title,
        verdict=verdict,
        tone=tone,
        summary=report.summary,
        facts=f"{_span(report)}{report.rows:,} rows beside {report.reference_rows:,} of the training data",
        body=f"{_list('New columns, not judged', report.new_columns)}{legend}<main>{cards}</main>",
        style=_STYLE,
    )


def _span(report: DriftReport) -> str:
    if report.start is None or report.end is None:
        return ""
    return f"{report.start:%d %b %Y %H:%M} to {report.end:%d %b %Y %H:%M} UTC · "


def _list(title: str, names: Sequence[str]) -> str:
    return f"<p><small>{title}: {escape(', '.join(names))}</small></p>" if names else ""


def _card(drift: ColumnDrift, reference: ColumnProfile | None, current: ColumnProfile | None) -> str:
    mark = ' class="drifted"' if drift.drifted else ""
    state = "drifted" if drift.drifted else "stable"
    chart = ""
    if reference is not None and reference.valued:
        chart = _categories(reference, current) if reference.categories else _histogram(reference, current)
    tolerance = f"tolerance {number(drift.threshold)}, noise {number(drift.noise)}"
    return (
        f"<section{mark}><h2>{escape(drift.name)}: {state}</h2>"
        f"<p>{escape(str(drift).removeprefix(drift.name)[:200])}</p>{chart}"
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
    longest = max(*p, *q) or 1.0
    bars = "".join(
        f"<dt>{escape(name[:_LABEL])} <small>{a:.1%} → {b:.1%}</small></dt>"
        f'<dd><i class="b ref" style="width:{a / longest:.0%}"></i>'
        f'<i class="b cur" style="width:{b / longest:.0%}"></i></dd>'
        for name, a, b in rows[:_BARS]
    )
    return f"<dl>{bars}</dl>"
