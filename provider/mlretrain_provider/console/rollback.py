"""``mlretrain rollback``: start the pipeline's roll-back in Airflow, and follow it."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from mlretrain import wire
from mlretrain.errors import ConfigError, NotFound, TransientError
from mlretrain_provider.console.airflow_api import DEFAULT_URL, URL, AirflowApi, Conflict

ENDED = ("success", "failed")
POLL_S = 2.0
_PATIENCE = 60
"""Looks, :data:`POLL_S` apart, at an Airflow that does not answer."""
_MANY = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``mlretrain rollback``."""
    parser.add_argument("--to", metavar="VERSION", help="such as v7 (default: the champion before this one)")
    parser.add_argument("--reason", required=True, help="why, in a sentence; kept in the ledger")
    parser.add_argument("--wait", action="store_true", help="until it has ended; status 1 if it failed")
    parser.add_argument(
        "--airflow-url",
        default=os.environ.get(URL) or DEFAULT_URL,
        metavar="URL",
        help=f"where Airflow's API is (default: {URL}, or {DEFAULT_URL})",
    )


def main(options: argparse.Namespace) -> int:
    """Where the run can be seen; with ``--wait``, how it ended."""
    if not options.reason.strip():
        raise ConfigError("a roll-back without a reason", remedy="Say in a sentence why: --reason …")
    api = AirflowApi(url=options.airflow_url, env=os.environ)
    back = RollBack(api=api, pipeline=options.name_of(options.pipeline), to=_version(options.to))
    run_id, new = back.start(options.reason)
    said = "started" if new else "under way already"
    sys.stdout.write(f"{back.dag_id} is {said}: {api.page(back.dag_id, run_id)}\n")
    sys.stdout.flush()
    return back.follow(run_id, sys.stdout.write) if options.wait else 0


def _version(to: str | None) -> str | None:
    """The number of ``v7`` or ``7``; ``None`` for the champion before this one."""
    if to is None or to == "previous":
        return None
    number = to.removeprefix("v")
    if not number.isdigit():
        raise ConfigError("not a version", where="--to", found=repr(to), allowed="7, v7, previous")
    return number


@dataclass(frozen=True, slots=True, kw_only=True)
class RollBack:
    """The roll-back of a pipeline to a version.

    :param to: its number; none: the champion before this one.
    :param sleep: how to wait, in seconds; ``now`` the wall clock.
    """

    api: AirflowApi
    pipeline: str
    to: str | None
    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))

    @property
    def dag_id(self) -> str:
        """The DAG that does it."""
        return f"{self.pipeline}.rollback"

    def start(self, reason: str) -> tuple[str, bool]:
        """The id of the run, and whether it has just been started: the same is not asked for twice at once.

        :raises NotFound: Airflow has no such DAG.
        :raises ConfigError: the DAG is paused, or cannot be loaded.
        """
        self._expect_ready()
        conf = {"version": self.to, "reason": reason}
        prefix = f"console__{wire.digest(conf, 12)}__"
        asked = {"run_id_pattern": f"{prefix}%", "limit": _MANY, "order_by": "-run_after"}
        runs = {each["dag_run_id"]: each["state"] for each in self.api.get(self._runs, **asked)["dag_runs"]}
        for run_id, state in runs.items():
            if state not in ENDED:
                return run_id, False
        # Two who ask at once name the same run, and one is refused; the ledger keeps names for ever, so
        # that a number alone would come again with an Airflow that has lost its database.
        minute = f"{prefix}{self.now():%Y%m%dT%H%M}__"
        run_id = f"{minute}{1 + sum(each.startswith(minute) for each in runs)}"
        try:
            self.api.post(self._runs, {"dag_run_id": run_id, "conf": conf, "logical_date": None})
        except Conflict:
            return run_id, False
        return run_id, True

    def follow(self, run_id: str, say: Callable[[str], Any]) -> int:
        """Wait until the run has ended; the exit status."""
        while (state := self._state(run_id)) not in ENDED:
            self.sleep(POLL_S)
        if state == "success":
            say(self._result(run_id))
            return 0
        tasks = self.api.get(f"{self._runs}/{quote(run_id)}/taskInstances", limit=_MANY)
        failed = [each["task_id"] for each in tasks["task_instances"] if each["state"] == "failed"]
        say(f"It failed: {', '.join(failed) or 'see its page'}. Its log says why.\n")
        return 1

    @property
    def _dag(self) -> str:
        return f"dags/{quote(self.dag_id)}"

    @property
    def _runs(self) -> str:
        return f"{self._dag}/dagRuns"

    def _expect_ready(self) -> None:
        try:
            dag = self.api.get(self._dag)
        except NotFound:
            raise NotFound(
                "Airflow has no such DAG",
                where=self.api.url,
                found=self.dag_id,
                remedy="Is the pipeline's name right, and this the Airflow that runs it?",
            ) from None
        if dag.get("is_paused"):
            raise ConfigError(
                "the DAG is paused, so nothing would happen",
                where=self.dag_id,
                remedy=f"airflow dags unpause {self.dag_id}",
            )
        if dag.get("has_import_errors") or dag.get("is_stale"):
            raise ConfigError(
                "Airflow cannot load the DAG", where=self.dag_id, remedy="mlretrain lint says what is wrong."
            )

    def _state(self, run_id: str) -> str:
        """The run's state; an Airflow that is restarted meanwhile is waited for."""
        for _ in range(_PATIENCE):
            try:
                return str(self.api.get(f"{self._runs}/{quote(run_id)}")["state"])
            except TransientError:
                self.sleep(POLL_S)
        return str(self.api.get(f"{self._runs}/{quote(run_id)}")["state"])

    def _result(self, run_id: str) -> str:
        task = f"{self._runs}/{quote(run_id)}/taskInstances/roll_back/xcomEntries/return_value"
        try:
            told = self.api.get(task, deserialize="true")["value"]
        except NotFound:
            told = {}
        if not isinstance(told, dict) or not told.get("version"):
            return "Done.\n"
        instead = f" in place of version {told['previous']}" if told.get("previous") else ""
        return f"Version {told['version']} serves{instead}.\n"
