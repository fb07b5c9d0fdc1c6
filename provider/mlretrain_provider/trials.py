"""The trials of a search as they are kept in the artifact store, from which the search can always go on."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mlretrain import wire
from mlretrain.ports import ArtifactStore
from mlretrain_provider.study import Trial

_NAME = re.compile(r"(?P<number>\d+)\.(?:asked|answered-(?P<round>\d+))\.json")


class TrialLog:
    """What was asked and what was answered, each written once, below ``prefix``.

    A search that gives up, because too many of its trials have failed, begins a new round when its task is
    run again: what has failed is tried again, what is complete stays.
    """

    def __init__(self, store: ArtifactStore, prefix: str) -> None:
        self._store = store
        self._folder = f"{prefix}/trials"
        self._trials: dict[int, Trial] = {}
        self.round = 0
        self._load()

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All trials by number, which begins at 0 and has no gaps."""
        return tuple(self._trials[number] for number in sorted(self._trials))

    def ask(self, params: Mapping[str, Any], mlflow_run_id: str) -> Trial:
        """The next trial; should somebody else have asked it meanwhile, theirs."""
        number = len(self._trials)
        trial = Trial(number=number, params=dict(params), mlflow_run_id=mlflow_run_id)
        self._trials[number] = self._once(f"{number:05}.asked.json", trial)
        return self._trials[number]

    def tell(self, trial: Trial, *, value: float | None = None, error: dict[str, Any] | None = None) -> Trial:
        """What came of ``trial``: a value or an error. What was told first counts."""
        ended = replace(trial, state="failed" if value is None else "complete", value=value, error=error)
        name = f"{trial.number:05}.answered-{self.round}.json"
        self._trials[trial.number] = self._once(name, ended)
        return self._trials[trial.number]

    def give_up(self) -> None:
        """End the round."""
        self._store.create(f"{self._folder}/gave-up-{self.round}.json", wire.pretty({"round": self.round}))

    def _load(self) -> None:
        names = [path.removeprefix(f"{self._folder}/") for path in self._store.list(f"{self._folder}/")]
        self.round = sum(name.startswith("gave-up-") for name in names)
        found: dict[int, list[tuple[int, str]]] = {}
        for match in filter(None, map(_NAME.fullmatch, names)):
            round_ = -1 if match["round"] is None else int(match["round"])
            found.setdefault(int(match["number"]), []).append((round_, match[0]))
        self._trials = {number: self._read_trial(files) for number, files in found.items()}

    def _read_trial(self, files: list[tuple[int, str]]) -> Trial:
        round_, name = max(files)
        trial = self._read(name)
        if trial.state == "failed" and round_ < self.round:
            return replace(trial, state="running", error=None)
        return trial

    def _once(self, name: str, trial: Trial) -> Trial:
        if self._store.create(f"{self._folder}/{name}", wire.pretty(trial)):
            return trial
        return self._read(name)

    def _read(self, name: str) -> Trial:
        return wire.from_wire(Trial, json.loads(self._store.read(f"{self._folder}/{name}")))
