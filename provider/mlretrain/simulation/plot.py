"""The simulation as a picture: quality and drift over time, with each setting's retrains on its own lane.

Shapes are drawn in a box that may be stretched to any width; texts are put beside them, so that they stay
readable on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape

from mlretrain.simulation.replay import PROMOTED
from mlretrain.simulation.simulate import Result, Simulation
from mlretrain.verdict import Drift, number

WIDTH, LANE, CHART = 1000, 56, 220
COLOURS = 6
_LEFT, _GAP, _HEAD, _VERDICT = 330, 34, 40, 6
_MONTHS = 14
"""Months that have room for a name each; of more every third is named."""

STYLE = """
:root{--c0:#2563eb;--c1:#d97706;--c2:#059669;--c3:#9333ea;--c4:#dc2626;--c5:#0891b2;--flat:#94a3b8;--area:#fca5a5}
@media (prefers-color-scheme:dark){:root{--c0:#60a5fa;--c1:#fbbf24;--c2:#34d399;--c3:#c084fc;--c4:#f87171;
--c5:#22d3ee;--flat:#64748b;--area:#7f1d1d}}
.plot path,.plot line,.plot polyline{fill:none;vector-effect:non-scaling-stroke;stroke:currentColor}
.plot .drift{fill:var(--area);stroke:none}.plot .verdict{fill:var(--bad,#b91c1c);stroke:none}
.plot .unknown{fill:var(--flat);opacity:.4;stroke:none}
.plot .limit{stroke:var(--soft);stroke-dasharray:4 4;opacity:.7}.plot .axis{stroke:var(--line)}
.plot .mark{stroke:var(--c0);stroke-width:2}.plot .mark.kept{stroke-dasharray:3 3}
.plot .fixed{stroke:var(--flat);stroke-width:1.5}.plot polyline{stroke-width:2}
""" + "".join(f".plot .c{i}{{stroke:var(--c{i})}}" for i in range(COLOURS))


def drawn(simulation: Simulation) -> list[tuple[Result, str]]:
    """The settings whose quality is drawn, with the class of their line: the recommended one and some beside.

    These are the first that look at the data, and never and always.
    """
    monitored = [each for each in simulation.results if each.replay.setting.is_monitored]
    taken = simulation.recommendation.setting
    candidates = [each for each in simulation.results if each in monitored or each.name == taken]
    first = sorted(candidates, key=lambda each: each.name != taken)[:COLOURS]
    chosen = [each for each in candidates if each in first]
    fixed = [each for each in simulation.results if each.name in ("never", "always") and each not in chosen]
    return [*((each, f"c{i}") for i, each in enumerate(chosen)), *((each, "fixed") for each in fixed)]


def bounds(simulation: Simulation) -> tuple[float, float]:
    """The least and the greatest quality that is drawn, a little apart."""
    values = [
        tile.value
        for result, _ in drawn(simulation)
        for tile in result.outcome.tiles
        if math.isfinite(tile.value)
    ]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    room = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    return low - room, high + room


def quality(simulation: Simulation) -> str:
    """The lines of :func:`drawn` in a box of ``WIDTH`` × ``CHART``."""
    low, high = bounds(simulation)
    lines = []
    for result, name in drawn(simulation):
        points = " ".join(
            f"{_x(simulation, tile.start + (tile.end - tile.start) / 2):.1f},"
            f"{CHART * (high - tile.value) / (high - low):.1f}"
            for tile in result.outcome.tiles
            if math.isfinite(tile.value)
        )
        dashes = ' stroke-dasharray="2 4"' if result.name == "never" else ""
        lines.append(f'<polyline class="{name}"{dashes} points="{points}"/>')
    axis = f'<path class="axis" d="M0 0V{CHART}H{WIDTH}"/>'
    return f"{_grid(simulation, CHART)}{axis}{''.join(reversed(lines))}"


def lane(simulation: Simulation, result: Result) -> str:
    """A setting's drift share and retrains in a box of ``WIDTH`` × ``LANE``."""
    setting = result.replay.setting
    parts = [_grid(simulation, LANE), f'<path class="axis" d="M0 {LANE}H{WIDTH}"/>']
    if setting.drift is not None and result.replay.steps:
        parts += [
            _share(simulation, result),
            _windows(simulation, result, "unknown", LANE),
            _windows(simulation, result, "drift", _VERDICT),
        ]
        limit = LANE * (1 - setting.drift.share / _highest(simulation))
        parts.append(f'<line class="limit" x1="0" x2="{WIDTH}" y1="{limit:.1f}" y2="{limit:.1f}"/>')
    for kept in (False, True):
        ends = [each.at for each in result.replay.retrains if (each.outcome != PROMOTED) == kept]
        marks = "".join(f"M{_x(simulation, at):.1f} 0V{LANE}" for at in ends)
        if marks:
            parts.append(f'<path class="mark{" kept" if kept else ""}" d="{marks}"/>')
    return "".join(parts)


def months(simulation: Simulation) -> list[tuple[float, str]]:
    """Where each month begins, as a share of the width, and its name."""
    first = simulation.start.astimezone(UTC)
    count = (simulation.end.year - first.year) * 12 + simulation.end.month - first.month + 1
    step = 1 if count <= _MONTHS else 3
    starts = [
        datetime(first.year + (first.month - 1 + i) // 12, (first.month - 1 + i) % 12 + 1, 1, tzinfo=UTC)
        for i in range(0, count + 1, step)
    ]
    return [
        (_x(simulation, each) / WIDTH, f"{each:%b}" if each.month > 1 else f"{each:%b %Y}")
        for each in starts
        if simulation.start <= each < simulation.end
    ]


def label(result: Result) -> str:
    """What stands beside a lane."""
    count = result.outcome.retrains
    return f"{count} retrain{'' if count == 1 else 's'}"


def render_svg(simulation: Simulation) -> str:
    """The whole picture as one file of its own."""
    chart = CHART + _GAP if simulation.trained else 0
    height = _HEAD + chart + len(simulation.results) * (LANE + _GAP) + _GAP
    parts = [f'<text x="12" y="24" font-weight="600">{escape(_title(simulation))}</text>']
    if simulation.trained:
        low, high = bounds(simulation)
        parts.append(_box(quality(simulation), _HEAD, CHART))
        parts.append(f'<text x="{_LEFT - 10}" y="{_HEAD + 12}" text-anchor="end">{number(high)}</text>')
        parts.append(f'<text x="{_LEFT - 10}" y="{_HEAD + CHART}" text-anchor="end">{number(low)}</text>')
        parts.append(f'<text x="12" y="{_HEAD + 12}">{escape(simulation.metric)}</text>')
        parts += _legend(drawn(simulation), _HEAD + 40)
    for i, result in enumerate(simulation.results):
        top = _HEAD + chart + i * (LANE + _GAP)
        parts.append(_box(lane(simulation, result), top, LANE))
        parts += _two_lines(result, top)
    for share, name in months(simulation):
        parts.append(f'<text class="soft" x="{_LEFT + share * WIDTH:.0f}" y="{height - 12}">{name}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + WIDTH + 20} {height}" '
        'font-family="system-ui,sans-serif" font-size="14" fill="currentColor" class="plot">'
        "<style>:root{color:#0f172a;background:#fff;--soft:#64748b;--line:#cbd5e1}"
        "@media (prefers-color-scheme:dark){:root{color:#e2e8f0;background:#0f172a;--line:#334155}}"
        f".soft{{fill:var(--soft)}}{STYLE}</style>{''.join(parts)}</svg>\n"
    )


def _two_lines(result: Result, top: int) -> list[str]:
    """A setting's name, broken where it has two parts, and its number of retrains."""
    words = result.name.split(" ") if result.replay.setting.changes else [result.name]
    texts = [*words[:2], f"{label(result)}{' …' if len(words) > 2 else ''}"]
    kinds = [*["name"] * (len(texts) - 1), "soft"]
    return [
        f'<text class="{kind}" x="12" y="{top + 16 + 18 * i}">{escape(text)}</text>'
        for i, (kind, text) in enumerate(zip(kinds, texts, strict=True))
    ]


def _legend(lines: Sequence[tuple[Result, str]], top: int) -> list[str]:
    return [
        f'<path class="{name}" stroke-width="3" d="M12 {top + 20 * i - 5}h18"/>'
        f'<text x="36" y="{top + 20 * i}">{escape(result.name[:40])}</text>'
        for i, (result, name) in enumerate(lines)
    ]


def _box(shapes: str, top: int, height: int) -> str:
    return f'<svg x="{_LEFT}" y="{top}" width="{WIDTH}" height="{height}">{shapes}</svg>'


def _share(simulation: Simulation, result: Result) -> str:
    """Steps as high as the share of drifted columns of each window."""
    steps, highest = result.replay.steps, _highest(simulation)
    before = [simulation.start, *(each.end for each in steps)]
    path = "".join(
        f"M{_x(simulation, start):.1f} {LANE}V{LANE * (1 - step.measured.share / highest):.1f}"
        f"H{_x(simulation, step.end):.1f}V{LANE}z"
        for start, step in zip(before, steps, strict=False)
        if step.measured.share > 0 and step.measured.verdict != "unknown"
    )
    return f'<path class="drift" d="{path}"/>' if path else ""


def _windows(simulation: Simulation, result: Result, verdict: Drift, height: int) -> str:
    """A band below the windows of one verdict."""
    steps = result.replay.steps
    before = [simulation.start, *(each.end for each in steps)]
    path = "".join(
        f"M{_x(simulation, start):.1f} {LANE}v-{height}H{_x(simulation, step.end):.1f}v{height}z"
        for start, step in zip(before, steps, strict=False)
        if step.measured.verdict == verdict
    )
    kind = "verdict" if verdict == "drift" else "unknown"
    return f'<path class="{kind}" d="{path}"/>' if path else ""


def _highest(simulation: Simulation) -> float:
    """The share at the top of all lanes."""
    replays = [each.replay for each in simulation.results]
    shares = [step.measured.share for each in replays for step in each.steps]
    limits = [1.5 * each.setting.drift.share for each in replays if each.setting.drift]
    return min(1.0, max([*shares, *limits], default=1.0))


def _grid(simulation: Simulation, height: int) -> str:
    path = "".join(f"M{share * WIDTH:.1f} 0V{height}" for share, _ in months(simulation) if share > 0)
    return f'<path class="axis" stroke-opacity=".5" d="{path}"/>' if path else ""


def _x(simulation: Simulation, time: datetime) -> float:
    return WIDTH * (time - simulation.start) / (simulation.end - simulation.start)


def _title(simulation: Simulation) -> str:
    return f"{simulation.pipeline}, {simulation.start:%d %b %Y} to {simulation.end:%d %b %Y}"
