"""SageMaker endpoints of the test's own, which serve nothing but keep their state as AWS documents it.

What is real: HTTP, boto3 with its own request validation, S3, CloudWatch and SageMaker models, played by
moto's server inside this process.

What is fake, all of it here:

- Endpoints, their configurations, and the tags of both. moto has every endpoint in service at once, forgets
  shadow variants and weights of 0, and answers 500 to UpdateEndpoint. Here a change takes
  :attr:`FakeEndpoints.looks` looks, fails if a test asked for it, and what AWS documents as refused is
  refused: names of the wrong form, a shadow beside several variants, a change while another one is under way,
  guarded updates between different variants, the deletion of a configuration in use.
- The words of refusals are those that AWS is known to use, or their like.
- Creating a model twice is refused; moto would replace it.
- CloudWatch's percentiles, which moto does not compute.
- No machine, image, role, VPC or alarm exists.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any
from unittest.mock import patch

from mlretrain.runtime.fingerprint import MODEL_TAG, fingerprint
from mlretrain_provider.targets import Surroundings, open_target
from mlretrain_provider.targets.sagemaker import SageMakerTarget
from tests.fixtures_s3 import moto_server, s3_env
from tests.fixtures_sagemaker import ACCOUNT, BUCKET, CONN_ID, REGION, ROLE_ARN, Refused, connection

IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/mlflow-pyfunc:3"
PIPELINE = "flights"

_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
_OPERATIONS = (
    *(
        "create_endpoint_config",
        "describe_endpoint_config",
        "delete_endpoint_config",
        "list_endpoint_configs",
    ),
    *("create_endpoint", "describe_endpoint", "delete_endpoint", "update_endpoint"),
    *("update_endpoint_weights_and_capacities", "add_tags", "list_tags"),
)
_PASSED_ON = ("create_model", "describe_model", "delete_model", "list_models")

Params = Mapping[str, Any]


@dataclass(kw_only=True, eq=False)
class FakeEndpoint:
    """One endpoint: what is in force, and the change that is under way."""

    name: str
    config: str
    variants: list[dict[str, Any]] = field(default_factory=list)
    shadows: list[dict[str, Any]] = field(default_factory=list)
    status: str = "Creating"
    reason: str | None = None
    looks: int = 0
    then: Callable[[], None] = lambda: None

    @property
    def arn(self) -> str:
        return _arn("endpoint", self.name)

    def describe(self) -> dict[str, Any]:
        answer = {
            "EndpointName": self.name,
            "EndpointArn": self.arn,
            "EndpointConfigName": self.config,
            "EndpointStatus": self.status,
            "FailureReason": self.reason,
            "ProductionVariants": self.variants,
            "ShadowProductionVariants": self.shadows,
            "CreationTime": 0,
            "LastModifiedTime": 0,
        }
        return {key: value for key, value in answer.items() if value}


@dataclass(kw_only=True, eq=False)
class FakeEndpoints:
    """The server, its endpoints, and what a test may do to them.

    :param looks: how often an endpoint is found at work before a change is done.
    """

    endpoint_url: str
    folder: Path
    looks: int = 1
    endpoints: dict[str, FakeEndpoint] = field(default_factory=dict)
    configs: dict[str, Params] = field(default_factory=dict)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    requests: list[tuple[str, Params]] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    refusals: list[tuple[str, str, str]] = field(default_factory=list)
    before: dict[str, Callable[[], None]] = field(default_factory=dict)
    """What happens right before the next call of an operation: somebody else's doing."""
    lose: int | None = None
    """From which call on the first answer that is good is lost, though it was carried out."""
    models: set[str] = field(default_factory=set)
    clients: Any = None

    @property
    def artifacts_uri(self) -> str:
        """A root for artifacts that is this server's own, though moto has one memory for all."""
        return f"s3://{BUCKET}/{self.folder.name}"

    @property
    def source(self) -> FolderModels:
        """Versions, made when they are asked for."""
        return FolderModels(folder=self.folder / "registry")

    def target(self, **options: Any) -> SageMakerTarget:
        """The target as a pipeline would open it."""
        serving = {
            "target": "sagemaker",
            "conn_id": CONN_ID,
            "role_arn": ROLE_ARN,
            "image": IMAGE,
            "instance_type": "ml.m5.large",
            "source": self.source,
            "sleep": lambda _seconds: None,
            **options,
        }
        around = Surroundings(pipeline=PIPELINE, artifacts_uri=self.artifacts_uri, storage_conn_id=CONN_ID)
        target = open_target(serving, around)
        assert isinstance(target, SageMakerTarget)
        if serving["conn_id"] == CONN_ID:
            # Making a client of boto3 takes longer than all that a test does with it.
            self.clients = vars(target)["_clients"] = self.clients or target._clients
        return target

    def forget(self) -> None:
        """Be as new, for the next test."""
        from moto.sagemaker.models import sagemaker_backends

        for each in (self.endpoints, self.configs, self.tags, self.before):
            each.clear()
        for row in (self.calls, self.requests, self.failures, self.refusals):
            row.clear()
        self.models.clear()
        sagemaker_backends[ACCOUNT][REGION]._models.clear()
        self.lose = None
        self.folder = Path(mkdtemp(prefix="test-", dir=self.folder.parent))

    def client(self, service: str) -> Any:
        """A boto3 client of this server."""
        import boto3

        keys = s3_env(self.endpoint_url)
        return boto3.client(
            service,
            endpoint_url=self.endpoint_url,
            region_name=REGION,
            aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
        )

    def objects(self) -> list[str]:
        """The keys of all packages."""
        found = self.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=f"{self.folder.name}/")
        return [each["Key"] for each in found.get("Contents", ()) if each["Key"].endswith("model.tar.gz")]

    def fail(self, reason: str, status: str = "InService") -> None:
        """Let the next change fail: ``InService`` is what AWS takes back, anything else is where it stays."""
        self.failures.append((reason, status))

    def refuse(self, operation: str, code: str, message: str = "", times: int = 1) -> None:
        """Answer the next calls of an operation with this error."""
        self.refusals += [(operation, code, message)] * times

    def handle(self, operation: str, params: Params) -> dict[str, Any]:
        """The answer of an operation."""
        self.before.pop(operation, lambda: None)()
        self.calls.append(operation)
        self.requests.append((operation, params))
        for refusal in self.refusals:
            if refusal[0] == operation:
                self.refusals.remove(refusal)
                raise Refused(*refusal[1:])
        answer: dict[str, Any] = getattr(self, f"_{operation}")(params)
        self.lost()
        return answer

    def lost(self) -> None:
        """Raise if this is the call whose answer is lost."""
        if self.lose is not None and self.lose <= len(self.calls):
            self.lose = None
            raise Refused("ValidationException", "the worker died here")

    def _create_endpoint_config(self, params: Params) -> dict[str, Any]:
        name = _named(params["EndpointConfigName"])
        if name in self.configs:
            raise _invalid(
                f'Cannot create already existing endpoint configuration "{_arn("endpoint-config", name)}".'
            )
        variants, shadows = params["ProductionVariants"], params.get("ShadowProductionVariants", [])
        if shadows and (len(variants), len(shadows)) != (1, 1):
            raise _invalid("Shadow variants need exactly one production variant and one shadow variant.")
        for each in (*variants, *shadows):
            _named(each["VariantName"])
            if each["ModelName"] not in self.models:
                raise _invalid(f'Could not find model "{_arn("model", each["ModelName"])}".')
        self.configs[name] = params
        self._add_tags({"ResourceArn": _arn("endpoint-config", name), "Tags": params.get("Tags", [])})
        return {"EndpointConfigArn": _arn("endpoint-config", name)}

    def _describe_endpoint_config(self, params: Params) -> dict[str, Any]:
        found = self._config(params["EndpointConfigName"])
        return {
            **{key: value for key, value in found.items() if key != "Tags"},
            "EndpointConfigArn": _arn("endpoint-config", params["EndpointConfigName"]),
            "CreationTime": 0,
        }

    def _list_endpoint_configs(self, params: Params) -> dict[str, Any]:
        """Pages of one, so that whoever does not turn them finds little."""
        names = [each for each in sorted(self.configs) if params.get("NameContains", "") in each]
        start = int(params.get("NextToken") or 0)
        rows = [
            {
                "EndpointConfigName": each,
                "EndpointConfigArn": _arn("endpoint-config", each),
                "CreationTime": 0,
            }
            for each in names[start : start + 1]
        ]
        more = {"NextToken": str(start + 1)} if start + 1 < len(names) else {}
        return {"EndpointConfigs": rows, **more}

    def _delete_endpoint_config(self, params: Params) -> dict[str, Any]:
        name = params["EndpointConfigName"]
        self._config(name)
        assert all(each.config != name for each in self.endpoints.values()), f"{name} is in use"
        del self.configs[name]
        self.tags.pop(_arn("endpoint-config", name), None)
        return {}

    def _create_endpoint(self, params: Params) -> dict[str, Any]:
        name = _named(params["EndpointName"])
        if name in self.endpoints:
            raise _invalid(f'Cannot create already existing endpoint "{_arn("endpoint", name)}".')
        self._config(params["EndpointConfigName"])
        created = FakeEndpoint(name=name, config=params["EndpointConfigName"])
        self.endpoints[name] = created
        self._add_tags({"ResourceArn": created.arn, "Tags": params.get("Tags", [])})
        self._change(created, "Creating", created.config)
        return {"EndpointArn": created.arn}

    def _describe_endpoint(self, params: Params) -> dict[str, Any]:
        found = self._endpoint(params["EndpointName"])
        if found.looks:
            found.looks -= 1
        else:
            then, found.then = found.then, lambda: None
            then()
        return self._endpoint(params["EndpointName"]).describe()

    def _delete_endpoint(self, params: Params) -> dict[str, Any]:
        found = self._endpoint(params["EndpointName"])
        if found.status in ("Creating", "Updating"):
            raise _invalid(f'Cannot update in-progress endpoint "{found.arn}".')
        found.status, found.looks = "Deleting", self.looks

        def gone() -> None:
            del self.endpoints[found.name]
            self.tags.pop(found.arn, None)

        found.then = gone
        return {}

    def _update_endpoint(self, params: Params) -> dict[str, Any]:
        found = self._ready(params["EndpointName"])
        config = self._config(params["EndpointConfigName"])
        if "DeploymentConfig" in params and _names(config) != {
            each["VariantName"] for each in found.variants
        }:
            raise _invalid("The new endpoint configuration must have the same variant names as the old one.")
        self._change(found, "Updating", params["EndpointConfigName"])
        return {"EndpointArn": found.arn}

    def _update_endpoint_weights_and_capacities(self, params: Params) -> dict[str, Any]:
        found = self._ready(params["EndpointName"])
        wanted = {
            each["VariantName"]: each["DesiredWeight"] for each in params["DesiredWeightsAndCapacities"]
        }
        if not set(wanted) <= {each["VariantName"] for each in found.variants}:
            raise _invalid(f"The variant name(s) {sorted(wanted)} are not present within the configuration.")
        found.status, found.looks = "Updating", self.looks
        failure = self.failures.pop(0) if self.failures else None

        def done() -> None:
            found.status, found.reason = ("InService", None) if failure is None else (failure[1], failure[0])
            if failure is None:
                for each in found.variants:
                    each["CurrentWeight"] = _float32(wanted.get(each["VariantName"], each["CurrentWeight"]))

        found.then = done
        return {"EndpointArn": found.arn}

    def _add_tags(self, params: Params) -> dict[str, Any]:
        kept = self.tags.setdefault(params["ResourceArn"], {})
        for each in params["Tags"]:
            assert re.fullmatch(r"[\w\s.:/=+@-]{0,256}", each["Value"]), each
            kept[each["Key"]] = each["Value"]
        return {"Tags": _tag_list(kept)}

    def _list_tags(self, params: Params) -> dict[str, Any]:
        return {"Tags": _tag_list(self.tags.get(params["ResourceArn"], {}))}

    def _change(self, found: FakeEndpoint, status: str, config: str) -> None:
        """Let ``config`` be in force after some looks, or what a test asked for instead."""
        found.status, found.looks = status, self.looks
        failure = self.failures.pop(0) if self.failures else None

        def done() -> None:
            found.reason = failure[0] if failure else None
            found.status = failure[1] if failure else "InService"
            if failure is None:
                said = self.configs[config]
                found.config = config
                found.variants = _summaries(said["ProductionVariants"])
                found.shadows = _summaries(said.get("ShadowProductionVariants", []))

        found.then = done

    def _ready(self, name: str) -> FakeEndpoint:
        found = self._endpoint(name)
        if found.status in ("Creating", "Updating", "Deleting", "RollingBack", "SystemUpdating"):
            raise _invalid(f'Cannot update in-progress endpoint "{found.arn}".')
        if found.status == "Failed":
            raise _invalid(f'Cannot update failed endpoint "{found.arn}".')
        return found

    def _endpoint(self, name: str) -> FakeEndpoint:
        if name not in self.endpoints:
            raise _invalid(f'Could not find endpoint "{_arn("endpoint", name)}".')
        return self.endpoints[name]

    def _config(self, name: str) -> Params:
        if name not in self.configs:
            raise _invalid(f'Could not find endpoint configuration "{_arn("endpoint-config", name)}".')
        return self.configs[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderModels:
    """A registry whose every version is a folder with two files, made when it is first asked for."""

    folder: Path
    tagged: bool = True

    def tags(self, model: str, version: str) -> Mapping[str, str]:
        return {MODEL_TAG: fingerprint(self._made(model, version))} if self.tagged else {}

    def download(self, model: str, version: str, folder: Path) -> Path:
        for path in self._made(model, version).iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        (folder / "registered_model_meta").write_text(f"model_name: {model}\nmodel_version: '{version}'\n")
        return folder

    def _made(self, model: str, version: str) -> Path:
        folder = self.folder / model / version
        if not folder.exists():
            folder.mkdir(parents=True)
            (folder / "MLmodel").write_text(f"flavors: {{}}\n# {version}\n")
            (folder / "model.pkl").write_bytes(version.encode() * 100)
        return folder


@contextmanager
def fake_endpoints(looks: int = 1) -> Iterator[FakeEndpoints]:
    """A server with a bucket; the Airflow connection of the SageMaker tests leads to it in this process."""
    from moto.cloudwatch.models import Statistics
    from moto.sagemaker.responses import SageMakerResponse

    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="mlretrain-endpoints-"))) / "test"
        folder.mkdir()
        url = stack.enter_context(moto_server(BUCKET))
        fake = FakeEndpoints(endpoint_url=url, folder=folder, looks=looks)
        fake.forget()  # moto has one memory for all servers of a process
        for operation in _OPERATIONS:
            answer = _answering(fake, operation)
            stack.enter_context(patch.object(SageMakerResponse, operation, answer, create=True))
        for operation in _PASSED_ON:
            passed_on = _passing_on(fake, operation, getattr(SageMakerResponse, operation))
            stack.enter_context(patch.object(SageMakerResponse, operation, passed_on))
        stack.enter_context(patch.object(Statistics, "get_statistics_for_type", _statistic))
        stack.enter_context(patch.dict(os.environ, {f"AIRFLOW_CONN_{CONN_ID.upper()}": connection(url)}))
        stack.callback(logging.getLogger("werkzeug").setLevel, logging.getLogger("werkzeug").level)
        logging.getLogger("werkzeug").setLevel(logging.WARNING)
        yield fake


def put_metrics(
    fake: FakeEndpoints, endpoint: str, version: str, at: datetime, metrics: Mapping[str, Sequence[float]]
) -> None:
    """Let CloudWatch have counted so for a version's variant."""
    dimensions = [
        {"Name": "EndpointName", "Value": endpoint},
        {"Name": "VariantName", "Value": f"v{version}"},
    ]
    data = [
        {"MetricName": name, "Dimensions": dimensions, "Timestamp": at, "Value": value}
        for name, values in metrics.items()
        for value in values
    ]
    fake.client("cloudwatch").put_metric_data(Namespace="AWS/SageMaker", MetricData=data)


def _answering(fake: FakeEndpoints, operation: str) -> Any:
    def answer(response: Any) -> Any:
        from moto.core.responses import ActionResult

        try:
            return ActionResult(fake.handle(operation, json.loads(response.body)))
        except Refused as error:
            return _error(error)

    return answer


def _passing_on(fake: FakeEndpoints, operation: str, real: Any) -> Any:
    """moto's own answer, but for models that exist, and for what a test wants lost or refused."""

    def answer(response: Any) -> Any:
        params = json.loads(response.body)
        name = str(params.get("ModelName", ""))
        fake.calls.append(operation)
        fake.requests.append((operation, params))
        try:
            for refusal in fake.refusals:
                if refusal[0] == operation:
                    fake.refusals.remove(refusal)
                    raise Refused(*refusal[1:])
            if operation == "create_model":
                if name in fake.models:
                    raise _invalid(f'Cannot create already existing model "{_arn("model", _named(name))}".')
                fake.models.add(_named(name))
            if operation == "delete_model":
                fake.models.discard(name)
            answered = real(response)
            fake.lost()
            return answered
        except Refused as error:
            return _error(error)

    return answer


def _error(error: Refused) -> Any:
    code, message = error.args
    return json.dumps({"__type": code, "message": message}), {"status": 400}


def _statistic(statistics: Any, stat: str) -> float | None:
    """The one asked for; of percentiles the value that so many percent of all values do not exceed."""
    values = sorted(statistics.metric_single_values_list)
    if stat == "Sum":
        return float(sum(values))
    return float(values[math.ceil(float(stat.removeprefix("p")) / 100 * len(values)) - 1])


def _summaries(variants: Sequence[Params]) -> list[dict[str, Any]]:
    return [
        {
            "VariantName": each["VariantName"],
            "CurrentWeight": _float32(each["InitialVariantWeight"]),
            "DesiredWeight": _float32(each["InitialVariantWeight"]),
            "CurrentInstanceCount": each["InitialInstanceCount"],
            "DesiredInstanceCount": each["InitialInstanceCount"],
        }
        for each in variants
    ]


def _float32(value: float) -> float:
    return float(struct.unpack("f", struct.pack("f", value))[0])


def _names(config: Params) -> set[str]:
    return {each["VariantName"] for each in config["ProductionVariants"]}


def _tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _named(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise _invalid(f"Value '{name}' failed to satisfy constraint: {_NAME.pattern}")
    return name


def _arn(kind: str, name: str) -> str:
    return f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:{kind}/{name}"


def _invalid(message: str) -> Refused:
    return Refused("ValidationException", message)
