"""The page for people about one search: what was tried, what came of it, the best first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from typing import Any

from mlretrain.page import page
from mlretrain_provider.study import Trial

_STYLE = """
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%}
th,td{padding:.3rem .6rem;border-bottom:1px solid var(--line);text-align:left;white-space:nowrap}
td.n{text-align:right;font-variant-numeric:tabular-nums}tr.best td{color:var(--good);font-weight:600}
tr.failed td{color:var(--bad)}td.e{white-space:normal;min-width:16rem}
"""


def render_html(trials: Sequence[Trial], *, best: Trial, metric: str, title: str) -> str:
    """The page. Everything in it is escaped; it needs no script and no network.

    :param title: which search of which pipeline.
    """
    failed = sum(each.state == "failed" for each in trials)
    chosen = ", ".join(f"{name} {_shown(value)}" for name, value in sorted(best.params.items()))
    return page(
        title=title,
        verdict=f"{metric} {_shown(best.value)}",
        tone="good",
        summary=f"Trial {best.number} is the best{': ' if chosen else ''}{chosen}.",
        facts=f"{len(trials)} trials, {failed} failed",
        body=f'<div class="scroll">{_table(trials, best, metric)}</div>',
        style=_STYLE,
    )


def _table(trials: Sequence[Trial], best: Trial, metric: str) -> str:
    names = sorted({name for each in trials for name in each.params})
    head = "".join(f"<th>{escape(each)}</th>" for each in ("trial", metric, *names, ""))
    rows = "".join(_row(each, names, is_best=each.number == best.number) for each in trials)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _row(trial: Trial, names: Sequence[str], *, is_best: bool) -> str:
    numbers = [trial.number, trial.value, *(trial.params.get(name) for name in names)]
    cells = "".join(f'<td class="n">{escape(_shown(each))}</td>' for each in numbers)
    note = str((trial.error or {}).get("message") or "") if trial.state == "failed" else ""
    note = note or ("best" if is_best else "" if trial.state == "complete" else trial.state)
    kind = "best" if is_best else trial.state
    return f'<tr class="{kind}">{cells}<td class="e">{escape(note)}</td></tr>'


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)
