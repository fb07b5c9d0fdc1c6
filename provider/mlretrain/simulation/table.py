"""The simulation as text: one line a setting, then the recommendation."""

from __future__ import annotations

from collections.abc import Sequence

from mlretrain.simulation.simulate import Result, Simulation
from mlretrain.verdict import number


def heads(simulation: Simulation) -> list[str]:
    """The table's columns."""
    quality = [simulation.metric, "worst window", "training"] if simulation.trained else []
    return [
        "setting",
        "retrains",
        *(["promoted"] if simulation.trained else []),
        "drift in windows",
        *quality,
    ]


def cells(simulation: Simulation, result: Result) -> list[str]:
    """One setting's line."""
    found = result.outcome
    looked = f"{found.drifted} of {found.windows}" if found.windows else "not looked at"
    if found.unknown:
        looked += f" ({found.unknown} unknown)"
    line = [result.name, str(found.retrains), *([str(found.promoted)] if simulation.trained else []), looked]
    if simulation.trained:
        worst = found.worst
        line += [
            number(found.quality),
            f"{number(worst.value)} from {worst.start:%d %b}" if worst else number(None),
            f"{simulation.timings.get(result.name, 0.0):.0f} s",
        ]
    return line


def title(simulation: Simulation) -> str:
    """What was replayed."""
    return f"{simulation.pipeline}, {simulation.start:%d %b %Y} to {simulation.end:%d %b %Y}"


def render_text(simulation: Simulation) -> str:
    """Heading, table, recommendation and notes."""
    lines = [heads(simulation), *(cells(simulation, each) for each in simulation.results)]
    windows = max((each.outcome.windows for each in simulation.results), default=0)
    head = f"{title(simulation)}: {windows} windows, {simulation.rows:,} rows"
    notes = "".join(f"- {note}\n" for note in simulation.notes)
    return f"{head}\n\n{_aligned(lines)}\n{simulation.recommendation.reason}\n{notes and chr(10)}{notes}"


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n"
        for line in lines
    )
