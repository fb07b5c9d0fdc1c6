"""The page for people about one window: the verdict and its reason, then each column's two distributions.

One self-contained HTML document: no script, no network, everything from the data escaped, about 2 kB a
column. The columns that need a look come first; those that are stable are one line that opens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from types import MappingProxyType

from mlretrain.drift.domain import DomainShift
from mlretrain.drift.histogram import label
from mlretrain.drift.picture import STYLE, change, percent, picture
from mlretrain.drift.profile import ColumnProfile, DriftProfile, Kind
from mlretrain.drift.verdict import ColumnDrift, DriftReport
from mlretrain.page import Tone, page
from mlretrain.verdict import Drift

PICTURES = 100
"""Columns that are drawn; the rest, ranked below them, are lines without a picture."""

_VERDICTS: Mapping[Drift, tuple[str, Tone]] = MappingProxyType(
    {
        "drift": ("This window has drifted", "bad"),
        "stable": ("No drift", "good"),
        "unknown": ("Not known whether it drifted", "neutral"),
    }
)
_SIGNALS: Mapping[bool | None, tuple[str, str]] = MappingProxyType(
    {True: ("bad", "violated"), False: ("good", "fine"), None: ("soft", "not measured")}
)
_LEGEND = (
    '<p class="legend"><i class="k" style="background:var(--ref)"></i> reference '
    '<i class="k" style="background:var(--cur)"></i> this window<br>'
    "<small>A column has drifted when its effect, the bar, goes beyond its tolerance and its noise, the "
    "marks. The ends of a picture hold all that lies beyond them.</small></p>"
)
_STYLE = """
.chips{display:flex;flex-wrap:wrap;gap:.5rem;list-style:none;padding:0;margin:0 0 1rem}
.chips li{border:1px solid var(--t);color:var(--t);border-radius:1rem;padding:0 .75rem;font-size:.9rem}
h2{margin:1.5rem 0 .5rem}h2 small{font-weight:400}
ul{padding-left:1.25rem}h3{font-size:1rem;margin:0}.k{display:inline-block;width:.8rem;height:.8rem}
.k~.k{margin-left:.75rem}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,21rem),1fr));gap:.75rem;
align-items:start}
section,details{border:1px solid var(--line);border-radius:.5rem;padding:.6rem .75rem;min-width:0}
section{border-color:var(--t)}section h3{color:var(--t)}
summary{cursor:pointer;display:flex;gap:.5rem;align-items:baseline}summary b{flex:1;font-weight:400}
summary small{white-space:nowrap}
.g{display:block;position:relative;height:.5rem;background:var(--line);border-radius:.25rem;margin:.4rem 0;
overflow:hidden}.g i{position:absolute;inset:0 auto 0 0;background:var(--good)}
section .g i{background:var(--bad)}.g u{position:absolute;top:0;bottom:0;width:2px;background:currentColor}
.rest{columns:21rem;padding-left:1rem;font-size:.85rem}
"""


def render_html(report: DriftReport, reference: DriftProfile, current: DriftProfile, title: str) -> str:
    """The page on ``report``; the profiles are those that it compared.

    :param title: which window of which pipeline.
    """
    verdict, tone = _VERDICTS[report.verdict]
    return page(
        title=title,
        verdict=verdict,
        tone=tone,
        summary=report.summary,
        facts=_span(report) + _compared(report),
        body=_signals(report.signals) + _findings(report) + _columns(report, reference, current),
        style=STYLE + _STYLE,
    )


def _span(report: DriftReport) -> str:
    if report.start is None or report.end is None:
        return ""
    return f"{report.start:%d %b %Y %H:%M} to {report.end:%d %b %Y %H:%M} UTC · "


def _compared(report: DriftReport) -> str:
    if not report.reference:
        return _rows(report.rows)
    other = f"{_rows(report.reference_rows)} of " if report.reference_rows else ""
    judge = " · columns judged by Evidently" if report.engine == "evidently" else ""
    return f"{_rows(report.rows)}, compared with {other}{report.reference}{judge}"


def _rows(rows: int) -> str:
    return f"{rows:,} row{'' if rows == 1 else 's'}"


def _signals(signals: Mapping[str, bool | None]) -> str:
    def chip(name: str, state: bool | None) -> str:
        tone, word = _SIGNALS[state]
        return f'<li style="--t:var(--{tone})">{escape(name)}: <b>{word}</b></li>'

    chips = "".join(chip(name, state) for name, state in signals.items())
    return f'<ul class="chips">{chips}</ul>' if chips else ""


def _findings(report: DriftReport) -> str:
    """What is true of the window as a whole, in sentences."""
    found = [*report.schema, *report.quality, *([_domain(report.domain)] if report.domain else [])]
    if report.new_columns:
        found.append(f"New columns, not judged: {', '.join(report.new_columns)}")
    return f"<ul>{''.join(f'<li>{escape(each)}</li>' for each in found)}</ul>" if found else ""


def _domain(shift: DomainShift) -> str:
    if shift.auc is None or shift.low is None:
        return f"Whether columns have shifted together was not measured: {shift.note}"
    told = f"; it goes by {', '.join(shift.columns)}" if shift.drifted and shift.columns else ""
    return (
        f"A classifier tells the window's rows from the reference's with an AUC of {shift.auc:.2f} "
        f"(at least {shift.low:.2f} with {shift.confidence:.0%} confidence; {shift.limit:.2f} is "
        f"tolerated){told}"
    )


def _columns(report: DriftReport, reference: DriftProfile, current: DriftProfile) -> str:
    def card(drift: ColumnDrift) -> str:
        pair = reference.column(drift.name), current.column(drift.name)
        return _card(drift, *pair, opened=drift is report.prediction)

    drawn, rest = report.columns[:PICTURES], report.columns[PICTURES:]
    groups = {
        "Predictions": [report.prediction] if report.prediction else [],
        "Not measured": [each for each in drawn if each.note],
        f"Drifted columns {_share(report)}": [each for each in drawn if each.drifted and not each.note],
        "Stable columns": [each for each in drawn if not each.drifted and not each.note],
    }
    parts = [
        f'<h2>{heading}</h2><div class="cards">{"".join(map(card, columns))}</div>'
        for heading, columns in groups.items()
        if columns
    ]
    if rest:
        lines = "".join(f"<li>{escape(str(each))}</li>" for each in rest)
        parts.append(f'<h2>Further columns</h2><ul class="rest">{lines}</ul>')
    return "".join([_LEGEND, *parts] if parts else [])


def _share(report: DriftReport) -> str:
    return f"<small>share {report.share:.2f}; {report.required_share:.2f} makes the window drift</small>"


def _card(
    drift: ColumnDrift,
    reference: ColumnProfile | None,
    current: ColumnProfile | None,
    *,
    opened: bool,
) -> str:
    """A column: a section if it drifted, else a line that opens."""
    told = str(drift).removeprefix(drift.name).strip()
    body = f"{_gauge(drift)}{picture(reference, current)}<small>{_facts(drift, reference, current)}</small>"
    name = escape(drift.name)
    if drift.drifted or drift.note:
        tone = "neutral" if drift.note and not drift.schema else "bad"
        return f'<section style="--t:var(--{tone})"><h3>{name}</h3><p>{escape(told)}</p>{body}</section>'
    state = " open" if opened else ""
    return f"<details{state}><summary><b>{name}</b><small>{escape(told)}</small></summary>{body}</details>"


def _gauge(drift: ColumnDrift) -> str:
    """The effect as a bar beside marks at the tolerance, and at the tolerance with the noise on top.

    None where another engine's verdict is not that the effect is the larger, as with p-values.
    """
    if drift.note or drift.drifted != (drift.effect > drift.limit):
        return ""
    whole = 1.1 * max(_finite(drift.effect), _finite(drift.limit)) or 1.0
    marks = (f'<u style="left:{_finite(each) / whole:.0%}"></u>' for each in (drift.threshold, drift.limit))
    return f'<div class="g"><i style="width:{_finite(drift.effect) / whole:.0%}"></i>{"".join(marks)}</div>'


def _finite(x: float) -> float:
    return min(max(x, 0.0), 1e9) if math.isfinite(x) else 1e9


def _facts(drift: ColumnDrift, reference: ColumnProfile | None, current: ColumnProfile | None) -> str:
    found: list[str] = [drift.kind]
    if not drift.note:
        noise = f", noise {drift.noise:.2g}" if drift.noise else ""
        found.append(f"tolerance {drift.threshold:.2g}{noise}")
    if drift.importance is not None:
        found.append(f"importance {percent(drift.importance)}")
    if drift.missing_rate or drift.reference_missing_rate:
        found.append(f"missing {change(percent(drift.reference_missing_rate), percent(drift.missing_rate))}")
    if reference is not None and current is not None and current.kind == reference.kind:
        found += _figures(reference, current)
    return escape(" · ".join(found))


def _figures(reference: ColumnProfile, current: ColumnProfile) -> list[str]:
    found = []
    if reference.mean is not None and current.mean is not None:
        old, new = (_mean(each, reference.kind) for each in (reference.mean, current.mean))
        found.append(f"mean {change(old, new)}{' characters' if reference.kind == 'text' else ''}")
    if reference.empty or current.empty:
        old, new = (percent(each.empty / each.n) if each.n else "no rows" for each in (reference, current))
        found.append(f"empty {change(old, new)}")
    if reference.salt is not None:
        found.append("sensitive: values are digests")
    return found


def _mean(mean: float, kind: Kind) -> str:
    return label(mean, time=True) if kind == "datetime" else label(float(f"{mean:.4g}"))
