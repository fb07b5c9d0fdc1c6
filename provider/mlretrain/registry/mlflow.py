"""The model registry and the experiment tracker of an MLflow 3 server."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Literal, TypeVar
from urllib.parse import quote, urlsplit

from mlretrain.errors import ConfigError, NotFound
from mlretrain.ports import ModelVersion
from mlretrain.registry.artifacts import put_file
from mlretrain.registry.rest import AlreadyExists, MlflowRest

RUN_KEY = "mlretrain.key"
MAX_ENTITIES = 100
"""Parameters or tags in one ``log-batch`` call; metrics may be 1000 (MLflow's REST API, "Request limits")."""
MAX_METRICS = 1000
MAX_VALUE = 6000
"""Characters of a parameter or tag that every MLflow store keeps."""
MAX_DATASET_DIGEST = 36
MAX_DESCRIPTION = 5000

DESCRIPTION = "mlflow.note.content"
_MARKDOWN = re.compile(r"[\\`*_\[\]<#~|]")

WORKFLOW = "?workflowType=machine_learning"
"""Without it MLflow's pages are laid out for language models."""

T = TypeVar("T")


def _pairs(values: Mapping[str, object]) -> list[dict[str, str]]:
    return [{"key": key, "value": str(value)[:MAX_VALUE]} for key, value in sorted(values.items())]


def _literal(text: str) -> str:
    """``text`` as a string of MLflow's filter language, which knows no escapes."""
    if "'" in text:
        raise ConfigError("a name in MLflow must not hold a single quote", found=repr(text))
    return f"'{text}'"


@dataclass(frozen=True, slots=True, kw_only=True)
class MlflowRegistry:
    """:class:`~mlretrain.ports.ModelRegistry` on MLflow's registry: aliases and tags, never stages."""

    rest: MlflowRest

    def register(self, name: str, model_uri: str, run_id: str, tags: Mapping[str, str]) -> ModelVersion:
        """The version made from ``run_id``, created with ``tags`` if there is none."""
        found = self._made_from(name, run_id)
        if found is not None:
            return self.version(name, found) or ModelVersion(name=name, version=found, run_id=run_id)
        self._create_model(name)
        body: dict[str, Any] = {"name": name, "source": model_uri, "run_id": run_id, "tags": _pairs(tags)}
        if model_uri.startswith("models:/m-"):
            body["model_id"] = model_uri.removeprefix("models:/")
        # An answer that is lost must not lead to a second version: the task's retry looks first.
        return _version(self.rest.post("model-versions/create", body, repeat=False)["model_version"])

    def version(self, name: str, ref: str) -> ModelVersion | None:
        """The version by number (``"7"``) or alias (``"@champion"``); ``None`` if there is none."""
        try:
            number = self._aliases(name).get(ref[1:]) if ref.startswith("@") else ref
            if number is None:
                return None
            answer = self.rest.get("model-versions/get", {"name": name, "version": number})
        except NotFound:
            return None
        return _version(answer["model_version"])

    def versions(self, name: str) -> list[ModelVersion]:
        """Every version, oldest first; empty for an unknown model."""
        try:
            aliases = self._aliases(name)
        except NotFound:
            return []
        found: list[ModelVersion] = []
        query = {"filter": f"name={_literal(name)}", "max_results": "1000"}
        while True:
            answer = self.rest.get("model-versions/search", query)
            found += [_version(each) for each in answer.get("model_versions", [])]
            if not answer.get("next_page_token"):
                break
            query["page_token"] = answer["next_page_token"]
        pointing = {
            each.version: tuple(sorted(name for name, to in aliases.items() if to == each.version))
            for each in found
        }
        # MLflow's search leaves the aliases out.
        return sorted(
            (replace(each, aliases=pointing[each.version]) for each in found),
            key=lambda each: int(each.version),
        )

    def set_alias(self, name: str, alias: str, version: str | None) -> None:
        """Point ``alias`` at ``version``; ``None`` removes it. Raises ``NotFound`` for an unknown version."""
        if version is not None:
            self.rest.post("registered-models/alias", {"name": name, "alias": alias, "version": version})
            return
        try:
            self.rest.post("registered-models/alias", {"name": name, "alias": alias}, method="DELETE")
        except NotFound:
            return

    def tag(self, name: str, version: str, tags: Mapping[str, str]) -> None:
        """Set tags of a version; MLflow takes them one by one."""
        for pair in _pairs(tags):
            self.rest.post("model-versions/set-tag", {"name": name, "version": version, **pair})

    def describe_version(self, name: str, version: str, text: str) -> None:
        """Make ``text`` the version's description; MLflow keeps its first 5,000 characters."""
        body = {"name": name, "version": version, "description": text[:MAX_DESCRIPTION]}
        self.rest.post("model-versions/update", body, method="PATCH")

    def web_url(self, name: str, version: str) -> str:
        """Where people see the version."""
        return f"{self.rest.uri}/#/models/{quote(name, safe='')}/versions/{version}{WORKFLOW}"

    def _made_from(self, name: str, run_id: str) -> str | None:
        query = {"filter": f"name={_literal(name)} and run_id={_literal(run_id)}", "max_results": "1000"}
        known = self.rest.get("model-versions/search", query).get("model_versions", [])
        return str(min(int(each["version"]) for each in known)) if known else None

    def _create_model(self, name: str) -> None:
        try:
            self.rest.post("registered-models/create", {"name": name})
        except AlreadyExists:
            return

    def _aliases(self, name: str) -> dict[str, str]:
        model = self.rest.get("registered-models/get", {"name": name})["registered_model"]
        return {each["alias"]: str(each["version"]) for each in model.get("aliases", [])}


def _version(data: Mapping[str, Any]) -> ModelVersion:
    return ModelVersion(
        name=data["name"],
        version=str(data["version"]),
        run_id=data.get("run_id") or None,
        aliases=tuple(sorted(data.get("aliases", ()))),
        tags={each["key"]: each.get("value", "") for each in data.get("tags", ())},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MlflowTracker:
    """:class:`~mlretrain.ports.RunTracker` on MLflow's experiments and runs.

    :param storage_env: access to artifacts that the server does not keep itself; none: the process's own.
    """

    rest: MlflowRest
    now: Callable[[], float] = time.time
    storage_env: Mapping[str, str] | None = field(default=None, repr=False)

    def open_run(self, experiment: str, key: str, name: str, tags: Mapping[str, str]) -> str:
        """The id of the run tagged ``mlretrain.key=key``, created as running if there is none."""
        experiment_id = self._experiment(experiment)
        body: dict[str, Any] = {
            "experiment_ids": [experiment_id],
            "filter": f"tags.`{RUN_KEY}` = {_literal(key)}",
            "order_by": ["attributes.start_time ASC"],
            "max_results": 1,
        }
        for run in self.rest.post("runs/search", body).get("runs", []):
            return str(run["info"]["run_id"])
        body = {
            "experiment_id": experiment_id,
            "run_name": name,
            "start_time": round(self.now() * 1000),
            "tags": _pairs({**tags, RUN_KEY: key}),
        }
        return str(self.rest.post("runs/create", body, repeat=False)["run"]["info"]["run_id"])

    def log(
        self,
        run_id: str,
        *,
        params: Mapping[str, object] | None = None,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log everything in as few calls as MLflow's limits allow; the same values twice are logged once."""
        if metrics:
            # MLflow drops a metric that it has with the same time and step, so the time must not be now.
            at = int(self._run(run_id)["info"]["start_time"])
            points = [
                {"key": key, "value": _number(value), "timestamp": at, "step": 0}
                for key, value in sorted(metrics.items())
            ]
            for each in _chunks(points, MAX_METRICS):
                self.rest.post("runs/log-batch", {"run_id": run_id, "metrics": each})
        for kind, values in (("params", params), ("tags", tags)):
            for pairs in _chunks(_pairs(values or {}), MAX_ENTITIES):
                self.rest.post("runs/log-batch", {"run_id": run_id, kind: pairs})

    def log_dataset(self, run_id: str, *, name: str, digest: str, uri: str, context: str) -> None:
        """Record a dataset as the run's input; MLflow keeps the first 36 characters of ``digest``."""
        scheme = urlsplit(uri).scheme
        dataset = {
            "name": name,
            "digest": digest[:MAX_DATASET_DIGEST],
            "source_type": scheme if scheme not in ("", "file") else "local",
            "source": json.dumps({"uri": uri}),
        }
        inputs = [{"tags": _pairs({"mlflow.data.context": context}), "dataset": dataset}]
        self.rest.post("runs/log-inputs", {"run_id": run_id, "datasets": inputs})

    def log_file(self, run_id: str, path: str, data: bytes) -> None:
        """Keep a file with the run; see :func:`~mlretrain.registry.artifacts.put_file`."""
        put_file(self.rest, str(self._run(run_id)["info"]["artifact_uri"]), path, data, self.storage_env)

    def describe(self, run_id: str, text: str) -> None:
        """Make ``text`` the run's description, as it stands: MLflow would read it as Markdown."""
        self.log(run_id, tags={DESCRIPTION: _MARKDOWN.sub(r"\\\g<0>", text)})

    def close_run(self, run_id: str, status: Literal["FINISHED", "FAILED"]) -> None:
        """End the run; one that has ended so already keeps its end time."""
        if self._run(run_id)["info"].get("status") != status:
            ended = {"run_id": run_id, "status": status, "end_time": round(self.now() * 1000)}
            self.rest.post("runs/update", ended)

    def web_url(self, run_id: str) -> str:
        """Where people see the run."""
        experiment_id = self._run(run_id)["info"]["experiment_id"]
        return f"{self.rest.uri}/#/experiments/{experiment_id}/runs/{run_id}{WORKFLOW}"

    def _run(self, run_id: str) -> dict[str, Any]:
        return dict(self.rest.get("runs/get", {"run_id": run_id})["run"])

    def _experiment(self, name: str) -> str:
        try:
            found = self.rest.get("experiments/get-by-name", {"experiment_name": name})["experiment"]
        except NotFound:
            try:
                return str(self.rest.post("experiments/create", {"name": name})["experiment_id"])
            except AlreadyExists:
                return self._experiment(name)
        if found.get("lifecycle_stage") == "deleted":
            raise ConfigError(
                f"the MLflow experiment {name!r} was deleted",
                where=self.rest.uri,
                remedy=f"Restore it: mlflow experiments restore --experiment-id {found['experiment_id']}",
            )
        return str(found["experiment_id"])


def _number(value: float) -> float | str:
    """``value`` as protobuf's JSON has it, which spells the non-finite ones out."""
    number = float(value)
    if number != number:
        return "NaN"
    return number if abs(number) != float("inf") else ("Infinity" if number > 0 else "-Infinity")


def _chunks(items: Sequence[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk
