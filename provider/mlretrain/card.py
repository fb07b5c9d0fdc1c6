"""The model card: a page on a model version, made of ledger, registry and evidence; nothing typed by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from mlretrain import scorecard
from mlretrain.dossier import Dossier
from mlretrain.gates import evidence
from mlretrain.ledger import LedgerEvent
from mlretrain.markdown import code, literal, table
from mlretrain.ports import ArtifactStore, ModelRegistry, RunTracker, Traffic
from mlretrain.runtime.store import join_uri
from mlretrain.verdict import number

DESCRIPTION = 5000
"""Characters of a model version's description that every MLflow server keeps."""
RUN_FILE = "card.md"
"""The card among the files of the MLflow run."""

_ACTS: Mapping[str, str] = {
    "shifted": "traffic moved",
    "observed": "watched",
    "withdrawn": "withdrawn",
    "promoted": "made champion",
    "retired": "retired",
    "rolled_back": "rolled back",
    "repaired": "repaired",
}


def card(dossier: Dossier) -> str:
    """The page, as Markdown. What nothing is known about has no section."""
    return "\n".join(_sections(dossier))


def brief(dossier: Dossier, whole: str, limit: int = DESCRIPTION) -> str:
    """Of the card, the sections for which there is room, and where all of it is.

    :param whole: its URI.
    """
    rest = f"The whole card: {code(whole)}\n"
    text = ""
    for section in _sections(dossier):
        if len(text) + len(section) + 1 + len(rest) <= limit:
            text += f"{section}\n"
    return text + rest


def card_path(pipeline: str, version: str) -> str:
    """Where the card is, below the artifact store's root."""
    return f"{pipeline}/cards/v{version}.md"


def publish(dossier: Dossier, *, store: ArtifactStore, tracker: RunTracker, registry: ModelRegistry) -> str:
    """Keep the card in the store and with the MLflow run, and in brief as the version's description; its URI.

    It replaces the one that was made when less had happened.
    """
    name, version = dossier.version.name, dossier.version.version
    path, data = card_path(name, version), card(dossier).encode()
    store.write(path, data)
    if dossier.version.run_id:
        tracker.log_file(dossier.version.run_id, RUN_FILE, data)
    uri = join_uri(store.root_uri, path)
    registry.describe_version(name, version, brief(dossier, uri))
    return uri


def _sections(dossier: Dossier) -> Iterator[str]:
    yield _what(dossier)
    for title, body in (
        ("Scores on the holdout", scorecard.scores(dossier)),
        ("Latency and size", scorecard.costs(dossier)),
        ("Promotion gate", _gate(dossier)),
        ("Approval", _approval(dossier)),
        ("Rollout", _rollout(dossier)),
        ("How to take it back", _back(dossier)),
        ("Worst slices", scorecard.slices(dossier)),
        ("Calibration", scorecard.calibration(dossier)),
        ("What it relies on", scorecard.importance(dossier)),
        ("Smoke test", _smoke(dossier)),
        ("Evidence", _files(dossier)),
    ):
        if body:
            yield f"## {title}\n\n{body}"


def _what(dossier: Dossier) -> str:
    version, data, registered = dossier.version, dossier.data, dossier.last("registered")
    rows = {
        "Model": code(version.model_uri),
        "Trained by": code(registered.run_id) + f" on {_at(registered.at)}" if registered else "",
        "Because": literal(dossier.tag("reason") or ""),
        "Data up to": _at(registered.window_end) if registered else "",
        "Training rows": f"{data.rows:,}{_between(data.start, data.end)}" if data else "",
        "Data's fingerprint": code(dossier.tag("dataset_fingerprint") or ""),
        "Holdout": _holdout(dossier),
        "Model's SHA-256": code(dossier.tag("model_sha256") or ""),
        "Signature's SHA-256": code(dossier.tag("signature_sha256") or ""),
        "Judged beside": f"version {before}" if (before := dossier.tag("champion_before")) else "no champion",
        "MLflow run": code(version.run_id or ""),
    }
    facts = table(("", ""), [(name, value) for name, value in rows.items() if value.strip("`")])
    return f"# {literal(version.name)}, version {version.version}\n\n{_standing(dossier)}\n\n{facts}"


def _standing(dossier: Dossier) -> str:
    if not dossier.reigns:
        return "It has never been champion."
    times = [
        f"since {_at(each.since)}"
        if each.until is None
        else f"from {_at(each.since)} until {_at(each.until)}"
        for each in dossier.reigns
    ]
    now = dossier.reigns[-1].until is None
    return f"{'Champion' if now else 'It was champion'} {', and '.join(times)}."


def _holdout(dossier: Dossier) -> str:
    digest = dossier.tag("holdout_sha256")
    rows = f"{dossier.evaluation.rows:,} rows, " if dossier.evaluation else ""
    return f"{rows}SHA-256 {code(digest)}" if digest else rows


def _gate(dossier: Dossier) -> str:
    gated = dossier.last("gated")
    if gated is None:
        return ""
    checks = f"\n\n{evidence.markdown(dossier.gate)}" if dossier.gate else "\n"
    return f"{literal(gated.reason)}.{checks}"


def _approval(dossier: Dossier) -> str:
    said = []
    for each in dossier.events:
        if each.kind in ("approved", "rejected"):
            why = f": {literal(each.reason)}" if each.reason else ", without a reason"
            asked = ", ".join(map(literal, each.evidence.get("asked") or ())) or "whoever may"
            said.append(f"- {each.kind} by **{literal(each.by)}** on {_at(each.at)}{why} (asked: {asked})\n")
    return "".join(said)


def _rollout(dossier: Dossier) -> str:
    acts = [each for each in dossier.events if each.kind in _ACTS]
    rows = [
        (_at(each.at), _act(each), _traffic(each.traffic), f"{_stats(each)}{literal(each.reason)}")
        for each in acts
    ]
    return table(("when", "what", "traffic", "seen"), rows) if rows else ""


def _act(event: LedgerEvent) -> str:
    by = f" by {literal(event.by)}" if event.by else ""
    strategy = f" ({literal(str(event.evidence['strategy']))})" if event.evidence.get("strategy") else ""
    return f"{_ACTS[event.kind]}{strategy}{by}"


def _back(dossier: Dossier) -> str:
    name, version = dossier.version.name, dossier.version.version
    if dossier.champion == version and dossier.before is None:
        return "There was no champion before it.\n"
    if dossier.champion == version:
        said, to = f"Version {dossier.before} was champion before it", dossier.before
    else:
        said, to = "It is not champion now. To make it so without training again", version
    return f'{said}:\n\n    mlretrain rollback {name} --to v{to} --reason "…"\n'


def _smoke(dossier: Dossier) -> str:
    tested = dossier.last("tested")
    if tested is None:
        return ""
    checks = f"\n\n{evidence.markdown(dossier.smoke)}" if dossier.smoke else "\n"
    return f"{literal(str(tested.outcome))}: {literal(tested.reason)}.{checks}"


def _files(dossier: Dossier) -> str:
    lines = [
        f"- {name}: {code(uri)}{f' ({literal(dossier.unread[name])})' if name in dossier.unread else ''}\n"
        for name, uri in dossier.files.items()
    ]
    return "".join(lines)


def _traffic(traffic: Traffic | None) -> str:
    if traffic is None:
        return ""
    shares = [f"v{version} {share} %" for version, share in traffic.weights.items()]
    copies = [f"v{version} gets copies of {share} %" for version, share in traffic.mirrored.items()]
    return ", ".join((*shares, *copies))


def _stats(event: LedgerEvent) -> str:
    stats: Mapping[str, Any] = event.evidence.get("stats") or {}
    if not stats:
        return ""
    p95 = stats.get("latency_p95_ms")
    slow = f", p95 {number(p95)} ms" if p95 is not None else ""
    return f"{stats.get('requests', 0):,} requests, {stats.get('errors', 0):,} failed{slow}; "


def _at(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _between(start: datetime | None, end: datetime | None) -> str:
    return f", from {_at(start)} to {_at(end)}" if start and end else ""
