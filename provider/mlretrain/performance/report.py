"""The page for people about one window's answers: the verdict, all metrics, predictions beside the truth."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from types import MappingProxyType

from mlretrain.page import Tone, page
from mlretrain.performance.policy import Basis, Group, PerformanceReport, Verdict
from mlretrain.verdict import number

_VERDICTS: Mapping[Verdict, tuple[str, Tone]] = MappingProxyType(
    {
        "violated": ("The answers are worse than allowed", "bad"),
        "fine": ("The answers are not worse than allowed", "good"),
        "unknown": ("Nobody knows how good the answers are", "neutral"),
    }
)
_OBSERVED: Mapping[Basis, str] = MappingProxyType(
    {"labels": "came true", "estimate": "expected", "none": "observed"}
)
_STYLE = """
table{border-collapse:collapse;margin:1rem 0}th,td{padding:.25rem .75rem;text-align:right;
border-bottom:1px solid var(--line)}th:first-child,td:first-child{text-align:left}
th{font-weight:400;color:var(--soft)}.b{display:block;height:.4rem;min-width:1px;background:var(--tone)}
"""


def render_html(report: PerformanceReport, title: str) -> str:
    """The page on ``report``.

    :param title: which window of which pipeline, and which version.
    """
    verdict, tone = _VERDICTS[report.verdict]
    return page(
        title=title,
        verdict=verdict,
        tone=tone,
        summary=report.summary,
        facts=_facts(report),
        body=_metrics(report) + _groups(report) + _notes(report),
        style=_STYLE,
    )


def _facts(report: PerformanceReport) -> str:
    basis = {
        "labels": "measured on labels",
        "estimate": "estimated from the answers' own confidence, as the champion's holdout has calibrated it",
        "none": "not measured",
    }[report.basis]
    span = (
        f"{report.start:%d %b %Y %H:%M} to {report.end:%d %b %Y %H:%M} UTC · "
        if report.start and report.end
        else ""
    )
    return f"{span}{report.rows:,} predictions, {report.labelled:,} with a label · {basis}"


def _metrics(report: PerformanceReport) -> str:
    if not report.metrics:
        return ""
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{number(value)}</td></tr>" for name, value in report.metrics.items()
    )
    return f"<table><tr><th>metric</th><th>value</th></tr>{rows}</table>"


def _groups(report: PerformanceReport) -> str:
    """A row for each group of predictions, with a bar as long as what came of them."""
    if not report.groups:
        return ""
    largest = max(abs(group.observed) for group in report.groups) or 1.0
    head = f"<tr><th>predicted</th><th>{_OBSERVED[report.basis]}</th><th>rows</th><th></th></tr>"
    return f"<table>{head}{''.join(_group(each, largest) for each in report.groups)}</table>"


def _group(group: Group, largest: float) -> str:
    predicted = group.predicted if isinstance(group.predicted, str) else number(group.predicted)
    width = abs(group.observed) / largest
    return (
        f"<tr><td>{escape(predicted)}</td><td>{number(group.observed)}</td><td>{group.rows:,}</td>"
        f'<td style="width:8rem"><i class="b" style="width:{width:.0%}"></i></td></tr>'
    )


def _notes(report: PerformanceReport) -> str:
    items = "".join(f"<li>{escape(each)}</li>" for each in report.notes)
    return f"<ul>{items}</ul>" if items else ""
