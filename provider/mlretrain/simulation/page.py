"""The simulation as a page for people: what to take and why, pictures over time, and each window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby

from mlretrain.page import Tone, page
from mlretrain.simulation import plot
from mlretrain.simulation.replay import Replay, Retrained, Step
from mlretrain.simulation.simulate import Result, Simulation
from mlretrain.simulation.table import cells, heads, title
from mlretrain.verdict import number

_ROOM = 6
"""Names of months that a phone has room for."""
_STYLE = """
.plot{width:100%;display:block;overflow:visible}.chart{height:12rem}.lane{height:2.5rem}
.key{display:inline-block;width:1.2rem;border-top:.2rem solid;vertical-align:middle;margin-right:.3rem}
.keys span{display:inline-block;margin-right:1rem}.keys{margin-bottom:.75rem}
.lanes>p{margin:.75rem 0 .1rem;display:flex;justify-content:space-between;gap:1rem;font-size:.9rem}
.lanes small{white-space:nowrap}
.months{position:relative;height:1.3rem;font-size:.8rem;color:var(--soft)}
.months span{position:absolute;white-space:nowrap}
h2{margin:1.5rem 0 .5rem}
.ends{display:flex;justify-content:space-between;font-size:.8rem;color:var(--soft)}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{text-align:left;padding:.3rem .6rem .3rem 0;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:400;color:var(--soft);white-space:nowrap}
table.settings td:not(:first-child){white-space:nowrap}tr.taken td:first-child{font-weight:600}
ol{padding-left:1.5rem}li{margin:.3rem 0}details{margin:.5rem 0}summary{cursor:pointer}
.drift{color:var(--bad)}.unknown{color:var(--neutral)}
@media (max-width:40rem){
table.settings thead{display:none}table.settings tr{display:grid;grid-template-columns:1fr 1fr;
border-bottom:1px solid var(--line);padding:.5rem 0}table.settings td{border:0;padding:.1rem 0}
table.settings td:first-child{grid-column:1/-1;font-weight:600}
table.settings td:not(:first-child)::before{content:attr(data-head);display:block;font-size:.75rem;
color:var(--soft)}.many span:nth-child(even){display:none}
table.windows thead{display:none}table.windows tr{display:grid;grid-template-columns:1fr auto auto;
border-bottom:1px solid var(--line);padding:.4rem 0}table.windows td{border:0;padding:0 .6rem 0 0}
table.windows td:last-child{grid-column:1/-1}}
"""


def render_html(simulation: Simulation) -> str:
    """One self-contained document: no script, no network, all from the data escaped."""
    taken = simulation.recommendation.setting
    tone: Tone = "good" if taken else "neutral"
    windows = max((each.outcome.windows for each in simulation.results), default=0)
    body = (
        _settings(simulation)
        + (_quality(simulation) if simulation.trained else "")
        + _lanes(simulation)
        + "".join(_life(each) for each in simulation.results if each.replay.setting.is_monitored)
        + _notes(simulation.notes)
    )
    return page(
        title=title(simulation),
        verdict=f"Recommended: {taken}" if taken else "What these policies would have done",
        tone=tone,
        summary=simulation.recommendation.reason,
        facts=f"{windows} windows, {simulation.rows:,} rows, {len(simulation.results)} settings"
        f"{'; all models were trained' if simulation.trained else '; nothing was trained'}",
        body=body,
        style=plot.STYLE + _STYLE,
    )


def _settings(simulation: Simulation) -> str:
    names = heads(simulation)
    taken = simulation.recommendation.setting
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = "".join(
        f"<tr{' class=taken' if result.name == taken else ''}>"
        + "".join(
            f'<td data-head="{escape(name)}">{escape(cell)}</td>'
            for name, cell in zip(names, cells(simulation, result), strict=True)
        )
        + "</tr>"
        for result in simulation.results
    )
    return f'<table class="settings"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _quality(simulation: Simulation) -> str:
    low, high = plot.bounds(simulation)
    keys = "".join(
        f'<span><i class="key" style="color:var(--{"flat" if name == "fixed" else name})'
        f'{";border-top-style:dotted" if result.name == "never" else ""}"></i>{escape(result.name)}</span> '
        for result, name in plot.drawn(simulation)
    )
    return (
        f"<h2>{escape(simulation.metric)} of the answers</h2>"
        f'<div class="ends"><span>{number(high)}</span></div>'
        f"{_svg(plot.quality(simulation), 'chart', plot.CHART, f'{simulation.metric} over time')}"
        f'<div class="ends"><span>{number(low)}</span></div>{_months(simulation)}'
        f'<p class="keys"><small>{keys}</small></p>'
    )


def _lanes(simulation: Simulation) -> str:
    lanes = "".join(
        f"<p><span>{escape(result.name)}</span><small>{plot.label(result)}</small></p>"
        + _svg(plot.lane(simulation, result), "lane", plot.LANE, f"drift and retrains of {result.name}")
        for result in simulation.results
    )
    legend = (
        '<p class="keys"><small><span><i class="key" style="color:var(--c0)"></i>retrain</span> '
        '<span><i class="key" style="color:var(--c0);border-top-style:dashed"></i>not promoted</span> '
        '<span><i class="key" style="color:var(--bad)"></i>window drifted</span> '
        '<span><i class="key" style="color:var(--area)"></i>share of drifted columns</span> '
        '<span><i class="key" style="color:var(--soft);border-top-style:dashed"></i>share that it takes'
        "</span> "
        '<span><i class="key" style="color:var(--flat)"></i>unknown</span></small></p>'
    )
    return f'<h2>Drift and retrains</h2>{legend}<div class="lanes">{lanes}{_months(simulation)}</div>'


def _svg(shapes: str, kind: str, height: int, name: str) -> str:
    return (
        f'<svg class="plot {kind}" viewBox="0 0 {plot.WIDTH} {height}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(name)}">{shapes}</svg>'
    )


def _months(simulation: Simulation) -> str:
    names = "".join(
        f'<span style="left:{share:.1%}">{name}</span>'
        for share, name in plot.months(simulation)
        if share < 0.97
    )
    many = " many" if names.count("<span") > _ROOM else ""
    return f'<div class="months{many}">{names}</div>'


def _life(result: Result) -> str:
    replay = result.replay
    return (
        f"<h2>{escape(result.name)}</h2>{_retrains(replay.retrains)}"
        f"<details><summary>{len(replay.steps)} windows</summary><table class='windows'><thead><tr>"
        "<th>to</th><th>champion</th><th>verdict</th><th>what was found and decided</th></tr></thead>"
        f"<tbody>{''.join(_windows(replay))}</tbody></table></details>"
    )


def _retrains(retrains: Sequence[Retrained]) -> str:
    items = "".join(
        f"<li>{each.at:%d %b %Y %H:%M}, {escape(each.outcome)}: {escape(each.reason)}"
        f"<br><small>{escape(each.why)}</small></li>"
        for each in retrains
    )
    count = f"{len(retrains)} retrain{'' if len(retrains) == 1 else 's'}"
    return f"<details><summary>{count}</summary><ol>{items}</ol></details>" if retrains else f"<p>{count}</p>"


def _windows(replay: Replay) -> Iterator[str]:
    """A row for each window; those in a row that said nothing are one."""
    for (quiet, _), group in groupby(replay.steps, _is_quiet):
        steps = list(group)
        if quiet and len(steps) > 1:
            first, last = steps[0], steps[-1]
            yield (
                f"<tr><td>{first.end:%d %b} – {last.end:%d %b}</td><td>v{escape(last.champion)}</td>"
                f"<td>stable</td><td><small>{len(steps)} windows</small></td></tr>"
            )
        else:
            yield from map(_window, steps)


def _is_quiet(step: Step) -> tuple[bool, str]:
    is_quiet = step.measured.verdict == "stable" and step.level == "none"
    return is_quiet, step.champion if is_quiet else ""


def _window(step: Step) -> str:
    found = [step.measured.summary, *([step.performed.summary] if step.performed else [])]
    said = "" if step.level == "none" else f"<br><small>{step.level}: {escape(step.reason)}</small>"
    return (
        f"<tr><td>{step.end:%d %b %H:%M}</td><td>v{escape(step.champion)}</td>"
        f'<td class="{step.measured.verdict}">{step.measured.verdict}</td>'
        f"<td>{escape('; '.join(found))}{said}</td></tr>"
    )


def _notes(notes: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f"<h2>How this was done</h2><ul>{items}</ul>" if notes else ""
