"""Everything that is known of one model version: what the ledger, its tags and its evidence files say."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any

from mlretrain import wire
from mlretrain.errors import MlretrainError, NotFound, TransientError
from mlretrain.gates.evaluation import Evaluation
from mlretrain.history import Reign, reigns
from mlretrain.importance import Importance
from mlretrain.ledger import EventKind, Ledger, LedgerEvent
from mlretrain.performance.calibration import Calibration
from mlretrain.ports import ModelRegistry, ModelVersion
from mlretrain.verdict import Check

TAG_PREFIX = "mlretrain."
Read = Callable[[str], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingData:
    """The rows that the model was trained on."""

    rows: int
    start: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dossier:
    """What is known of ``version``; evidence that there is none of, or that cannot be read, is empty.

    :param events: of the version, in order.
    :param reigns: its times as champion.
    :param champion: of now, ``before`` the champion before it.
    :param gate: the promotion gate's checks, ``smoke`` the smoke test's.
    :param files: where the evidence is kept, by field.
    :param unread: of these files, why they could not be read.
    """

    version: ModelVersion
    events: tuple[LedgerEvent, ...] = ()
    reigns: tuple[Reign, ...] = ()
    champion: str | None = None
    before: str | None = None
    evaluation: Evaluation | None = None
    calibration: Calibration | None = None
    importance: Importance | None = None
    data: TrainingData | None = None
    gate: tuple[Check, ...] = ()
    smoke: tuple[Check, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    unread: Mapping[str, str] = field(default_factory=dict)

    def last(self, *kinds: EventKind) -> LedgerEvent | None:
        """The last of the version's events of these kinds."""
        return next((each for each in reversed(self.events) if each.kind in kinds), None)

    def tag(self, name: str) -> str | None:
        """The version's tag ``mlretrain.<name>``."""
        return self.version.tags.get(f"{TAG_PREFIX}{name}")


def gather(pipeline: str, version: str, *, ledger: Ledger, registry: ModelRegistry, read: Read) -> Dossier:
    """The dossier of a version.

    :param read: gives the bytes of an evidence file, by its URI.
    :raises NotFound: there is no such version.
    """
    found = registry.version(pipeline, version)
    if found is None:
        raise NotFound("no such version", where=pipeline, found=version)
    links, standing = tuple(ledger.links()), ledger.standing()
    known = Dossier(
        version=found,
        events=tuple(link.event for link in links if _concerns(link.event, version)),
        reigns=tuple(each for each in reigns(links) if each.version == version),
        champion=standing.champion,
        before=standing.before,
    )
    files = _files(known)
    contents, unread = _contents(files, read)
    return replace(known, files=files, unread=unread, **contents)


def _concerns(event: LedgerEvent, version: str) -> bool:
    return event.version == version or (event.previous == version and event.kind == "rolled_back")


def _files(known: Dossier) -> dict[str, str]:
    gated, tested = known.last("gated"), known.last("tested")
    found = {
        "gate": gated and gated.evidence.get("checks_uri"),
        "smoke": tested and tested.evidence.get("checks_uri"),
        "evaluation": known.tag("evaluation_uri"),
        "calibration": known.tag("calibration_uri"),
        "importance": known.tag("importance_uri"),
        "data": known.tag("profile_uri"),
    }
    return {name: str(uri) for name, uri in found.items() if uri}


def _contents(files: Mapping[str, str], read: Read) -> tuple[dict[str, Any], dict[str, str]]:
    """By field of the dossier, what its file says, and why others say nothing."""
    contents: dict[str, Any] = {}
    unread: dict[str, str] = {}
    for name, uri in files.items():
        try:
            contents[name] = _READERS[name](json.loads(read(uri)))
        except NotFound:
            unread[name] = "the file is gone"
        except (MlretrainError, ValueError) as error:
            if isinstance(error, TransientError):
                raise
            unread[name] = f"not understood: {error}"
    return contents, unread


def _checks(content: Any) -> tuple[Check, ...]:
    """Of a list of them, or of a verdict with one."""
    listed = content["checks"] if isinstance(content, dict) else content
    return tuple(wire.from_wire(Check, each) for each in listed)


def _training_data(profile: Any) -> TrainingData:
    kept = {name: profile.get(name) for name in ("rows", "start", "end")}
    return wire.from_wire(TrainingData, kept)


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "gate": _checks,
    "smoke": _checks,
    "evaluation": partial(wire.from_wire, Evaluation),
    "calibration": partial(wire.from_wire, Calibration),
    "importance": partial(wire.from_wire, Importance),
    "data": _training_data,
}
