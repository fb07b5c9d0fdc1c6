"""The page for people about one validation: the verdict, then every expectation, the failed ones first.

Great Expectations' own Data Docs need libraries from the Internet to be read, and do not tell severities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from mlretrain.page import Tone, page
from mlretrain.runtime.expectations import SEVERITIES, Outcome

_STYLE = """
ul{list-style:none;padding:0;margin:0}
li{display:grid;grid-template-columns:1.5rem minmax(8rem,1fr) 3fr;gap:.25rem 1rem;padding:.75rem 0;
border-top:1px solid var(--line)}
li>b{font-size:1.1rem;line-height:1.4}.met b{color:var(--good)}.critical b,.critical em{color:var(--bad)}
.warning b,.warning em,.info b,.info em{color:var(--neutral)}em{font-style:normal;font-weight:600}
code{font-size:.85rem}@media (max-width:40rem){li{grid-template-columns:1.5rem 1fr}li>div+div{grid-column:2}}
"""
_VALUES = 200


def render_html(
    outcomes: Sequence[Outcome], *, passed: bool, title: str, rows: int, quarantined: int, docs: str
) -> str:
    """The page.

    :param passed: whether the data may be used.
    :param quarantined: how many of the ``rows`` were set aside.
    :param docs: where Great Expectations' Data Docs are, relative to the page.
    """
    failed = [each for each in outcomes if not each.met]
    verdict, tone = _verdict(passed, bool(failed))
    ranked = sorted(outcomes, key=lambda each: (each.met, SEVERITIES.index(each.expectation.severity)))
    more = f'<p><small><a href="{escape(docs)}">Great Expectations\' own page</a></small></p>'
    return page(
        title=title,
        verdict=verdict,
        tone=tone,
        summary=_summary(outcomes, failed),
        facts=f"{rows:,} rows checked" + (f", {quarantined:,} of them in quarantine" if quarantined else ""),
        body=f"<main><ul>{''.join(map(_item, ranked))}</ul></main>{more}",
        style=_STYLE,
    )


def _verdict(passed: bool, failures: bool) -> tuple[str, Tone]:
    if not passed:
        return "The data does not pass", "bad"
    return ("The data passes, with remarks", "neutral") if failures else ("The data passes", "good")


def _summary(outcomes: Sequence[Outcome], failed: Sequence[Outcome]) -> str:
    if not failed:
        return (
            f"All {len(outcomes)} expectations are met." if len(outcomes) > 1 else "It meets its expectation."
        )
    severities = [each.expectation.severity for each in failed]
    counts = ", ".join(f"{severities.count(each)} {each}" for each in SEVERITIES if each in severities)
    return f"{len(failed)} of {len(outcomes)} expectations are not met: {counts}."


def _item(outcome: Outcome) -> str:
    expectation = outcome.expectation
    kind = "met" if outcome.met else expectation.severity
    words = expectation.type.removeprefix("expect_").replace("_", " ")
    severity = f"<em>{escape(expectation.severity)}</em> · " if not outcome.met else ""
    return (
        f'<li class="{escape(kind)}"><b>{"✓" if outcome.met else "✗"}</b>'
        f"<div><strong>{escape(outcome.column or 'table')}</strong></div>"
        f"<div>{escape(words)}{_arguments(expectation.kwargs)}<br>"
        f"<small>{severity}{escape(outcome.observed)}</small></div></li>"
    )


def _arguments(kwargs: Mapping[str, Any]) -> str:
    given = ", ".join(
        f"{name} {value}" for name, value in kwargs.items() if name not in ("column", "column_list")
    )
    return f" <code>{escape(given[:_VALUES])}</code>" if given else ""
