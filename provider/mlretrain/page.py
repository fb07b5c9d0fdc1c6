"""A page for people: one self-contained HTML document without script and network, readable on a phone."""

from __future__ import annotations

from html import escape
from typing import Literal

Tone = Literal["good", "bad", "neutral"]

STYLE = """
:root{color-scheme:light dark;--good:#15803d;--bad:#b91c1c;--neutral:#b45309;--line:#cbd5e1;--soft:#64748b}
@media (prefers-color-scheme:dark){:root{
--good:#4ade80;--bad:#f87171;--neutral:#fbbf24;--line:#334155;--soft:#94a3b8}}
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;padding:1.5rem 1rem;max-width:72rem;
overflow-wrap:anywhere}
header{border-left:.4rem solid var(--tone);padding-left:1rem;margin-bottom:1.25rem}
h1{font-size:1rem;font-weight:400;margin:0}h2{font-size:1rem;margin:0}p{margin:.25rem 0}
header strong{font-size:1.5rem;color:var(--tone)}small{font-size:.85rem;color:var(--soft)}
"""


def page(*, title: str, verdict: str, tone: Tone, summary: str, facts: str, body: str, style: str) -> str:
    """The document.

    :param verdict: a few words, told before everything else.
    :param summary: the verdict's reason in a sentence.
    :param facts: what was looked at.
    :param body: the rest as HTML, escaped already; all other texts are escaped here.
    """
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style></head>"
        f'<body style="--tone:var(--{tone})"><header><h1>{escape(title)}</h1>'
        f"<p><strong>{escape(verdict)}</strong></p><p>{escape(summary)}</p>"
        f"<p><small>{escape(facts)}</small></p></header>{body}</body></html>\n"
    )
