"""What SageMaker is asked: golden requests, valid by AWS's own model; and what is refused before that."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlretrain.errors import ConfigError
from mlretrain.ports import JobSpec, Resources
from mlretrain_provider.backends.sagemaker_options import SagemakerOptions, kind_of
from mlretrain_provider.backends.sagemaker_request import processing_request, training_request

GOLDEN = Path(__file__).parents[3] / "golden" / "sagemaker"
FOLDER = "s3://ml/artifacts/churn/runs/r1/train-0a1b2c3d4e5f"

SPEC = JobSpec(
    name="churn-train-0a1b2c3d4e5f-1",
    request_uri=f"{FOLDER}/request.json",
    env={"MLRETRAIN_ATTEMPT": "1", "AWS_REGION": "eu-central-1"},
    secrets={"AWS_ACCESS_KEY_ID": "worker", "AWS_SECRET_ACCESS_KEY": "secret"},
    timeout_s=7200.0,
    checkpoint_uri=f"{FOLDER}/checkpoints",
    labels={
        "pipeline": "churn",
        "step": "train",
        "run_id": "manual__2026-11-21T04:00:00+00:00",
        "task_id": "fit models[{'depth': 3}]",
    },
)
OPTIONS = SagemakerOptions(
    role_arn="arn:aws:iam::123456789012:role/service-role/ml",
    image="123456789012.dkr.ecr.eu-central-1.amazonaws.com/churn:3",
    instance_type="ml.m5.xlarge",
)
EVERYTHING = replace(
    OPTIONS,
    volume_gb=200,
    subnets=("subnet-1", "subnet-2"),
    security_group_ids=("sg-1",),
    kms_key="alias/ml",
    volume_kms_key="arn:aws:kms:eu-central-1:123456789012:key/1",
    encrypt_traffic=True,
    tags={"team": "fraud", "cost center": "42"},
    channels={"pretrained": "s3://ml/models/bert", "words.v2": "s3://ml/words"},
    env={"OMP_NUM_THREADS": "4"},
    secrets_arn="arn:aws:secretsmanager:eu-central-1:123456789012:secret:ml-AbCdEf",
)
SECRET = replace(SPEC, secrets={**SPEC.secrets, "MLFLOW_TRACKING_PASSWORD": "hunter22"})

CASES: dict[str, tuple[JobSpec, SagemakerOptions]] = {
    "training": (SPEC, OPTIONS),
    "training_with_everything": (replace(SECRET, nodes=4), EVERYTHING),
    "training_on_spot": (SPEC, replace(OPTIONS, spot={"max_wait_s": 14400.0})),
    "training_on_spot_without_timeout": (
        replace(SPEC, timeout_s=None),
        replace(OPTIONS, spot={"max_wait_s": 3600}),
    ),
    "training_without_timeout": (replace(SPEC, timeout_s=None, checkpoint_uri=None), OPTIONS),
    "training_with_its_own_image": (
        replace(SPEC, image="123456789012.dkr.ecr.eu-central-1.amazonaws.com/other:1"),
        replace(OPTIONS, instance_type="ml.g5.xlarge"),
    ),
    "processing": (replace(SPEC, labels={"step": "evaluate"}), OPTIONS),
    "processing_with_everything": (
        replace(SECRET, labels={"step": "validate"}),
        replace(EVERYTHING, spot={"max_wait_s": 60}),
    ),
}


def made(spec: JobSpec, options: SagemakerOptions) -> tuple[str, dict[str, Any]]:
    """The operation and its arguments."""
    if kind_of(spec, options) == "training":
        return "CreateTrainingJob", training_request(spec, options)
    return "CreateProcessingJob", processing_request(spec, options)


@pytest.mark.parametrize("case", CASES)
def test_request(case: str, request: pytest.FixtureRequest) -> None:
    operation, arguments = made(*CASES[case])
    found = json.dumps({operation: arguments}, indent=1, sort_keys=True) + "\n"
    golden = GOLDEN / f"{case}.json"
    if request.config.getoption("--update-golden"):
        golden.write_text(found)
    assert found == golden.read_text()


@pytest.mark.parametrize("case", CASES)
def test_request_is_valid_by_awss_own_model(case: str) -> None:
    botocore = pytest.importorskip("botocore.session")
    operation, arguments = made(*CASES[case])
    shape = botocore.Session().get_service_model("sagemaker").operation_model(operation).input_shape
    assert list(faults(shape, arguments, operation)) == []


def faults(shape: Any, value: Any, where: str) -> Iterator[str]:
    """Where ``value`` breaks the model; boto3 itself does not look at patterns and upper bounds."""
    match shape.type_name:
        case "structure":
            yield from (f"{where}: no {name}" for name in shape.required_members if name not in value)
            yield from (f"{where}: unknown {name}" for name in value if name not in shape.members)
            parts = [(shape.members[name], each, f".{name}") for name, each in value.items()]
        case "map":
            names = [(shape.key, name, f".{name}") for name in value]
            parts = names + [(shape.value, each, f".{name}") for name, each in value.items()]
        case "list":
            parts = [(shape.member, each, f"[{index}]") for index, each in enumerate(value)]
        case _:
            parts = []
            yield from (f"{where}: {value!r} breaks {limit}" for limit in broken(shape, value))
    for part, each, path in parts:
        yield from faults(part, each, where + path)


def broken(shape: Any, value: Any) -> Iterator[str]:
    """Limits of a plain value. Patterns with Unicode classes are beyond Python's ``re``."""
    limits = shape.metadata
    pattern = limits.get("pattern", "")
    if pattern and "\\p" not in pattern and not re.fullmatch(pattern, value):
        yield pattern
    if limits.get("enum") and value not in limits["enum"]:
        yield "the list of known values"
    size = len(value) if isinstance(value, str) else value
    if not limits.get("min", 0) <= size <= limits.get("max", size):
        yield f"{limits.get('min')} to {limits.get('max')}"


def test_the_model_would_tell() -> None:
    botocore = pytest.importorskip("botocore.session")
    model = botocore.Session().get_service_model("sagemaker")
    arguments = {**training_request(SPEC, OPTIONS), "RoleArn": "x" * 20, "TrainingJobName": "a" * 64}
    found = list(faults(model.operation_model("CreateTrainingJob").input_shape, arguments, ""))
    assert [fault.partition(":")[0] for fault in found] == [
        ".TrainingJobName",
        ".TrainingJobName",
        ".RoleArn",
    ]


def test_no_secret_is_in_a_request() -> None:
    text = json.dumps(made(*CASES["training_with_everything"])[1])
    assert "hunter22" not in text
    assert "worker" not in text


@pytest.mark.parametrize(
    ("step", "job", "kind"),
    [
        ("train", "auto", "training"),
        ("trial", "auto", "training"),
        ("validate", "auto", "processing"),
        ("", "auto", "processing"),
        ("train", "processing", "processing"),
        ("evaluate", "training", "training"),
    ],
)
def test_kind_of_job(step: str, job: str, kind: str) -> None:
    assert kind_of(replace(SPEC, labels={"step": step}), replace(OPTIONS, job=job)) == kind


def test_names_are_made_to_fit() -> None:
    names = ["Ümläut 予測 📈", "x" * 200, "-dash", "a--b", "under_score", ""]
    made_of = [training_request(replace(SPEC, name=name), OPTIONS)["TrainingJobName"] for name in names]
    assert len(set(made_of)) == len(names)
    assert all(re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", name) for name in made_of)


def changed(spec: Mapping[str, Any], options: Mapping[str, Any]) -> tuple[JobSpec, SagemakerOptions]:
    return replace(SPEC, **spec), replace(OPTIONS, **options)


@pytest.mark.parametrize(
    ("spec", "options", "told"),
    [
        ({}, {"role_arn": "ml"}, r"sagemaker.role_arn: cannot be used \(found 'ml'; allowed: arn:aws:iam"),
        ({}, {"image": None}, r"sagemaker.image: no container image. Set image in the stack"),
        ({}, {"instance_type": None}, r"sagemaker.instance_type: no instance type. Set it in the stack's"),
        ({"resources": Resources(gpu=1)}, {}, r"1 GPU wanted, but the instance type has none.*ml.g5.xlarge"),
        ({}, {"job": "batch"}, r"sagemaker.job: cannot be used .*auto, training, processing"),
        ({"request_uri": "file:///r.json"}, {}, r"cannot read its request.*Set the stack's artifacts_uri"),
        ({"secrets": {"MLFLOW_TRACKING_TOKEN": "t0p-secret"}}, {}, r"found MLFLOW_TRACKING_TOKEN\). Keep"),
        ({}, {"network_isolation": True}, r"an isolated job cannot reach S3.*Set subnets"),
        ({}, {"subnets": ("subnet-1",)}, r"a VPC needs both.*found subnets only"),
        ({}, {"security_group_ids": ("sg-1",)}, r"found security_group_ids only"),
        ({}, {"spot": {"wait": 1}}, r"sagemaker.spot: cannot be used \(found wait; allowed: max_wait_s"),
        (
            {},
            {"spot": {"max_wait_s": 60}},
            r"spot.max_wait_s.*found 60; allowed: the job's timeout of 7200 s",
        ),
        (
            {"checkpoint_uri": "file:///c"},
            {"spot": {"max_wait_s": 9000}},
            r"needs a folder for checkpoints in S3",
        ),
        ({"timeout_s": 29 * 86400.0}, {}, r"a training job cannot take so long.*allowed: 2419200 s"),
        (
            {"timeout_s": 10 * 86400.0, "labels": {"step": "evaluate"}},
            {},
            r"a processing job cannot take so long.*allowed: 777600 s",
        ),
        ({"env": {"A-B": "1"}}, {}, r"env: not a name that SageMaker takes \(found 'A-B'"),
        ({"env": {"LONG": "x" * 513}}, {}, r"env.LONG: too long .*training job \(found 513 characters"),
        (
            {"env": {"LONG": "x" * 257}, "labels": {"step": "evaluate"}},
            {},
            r"too long for an environment variable of a processing job .*allowed: 256",
        ),
        (
            {"request_uri": f"s3://ml/{'x' * 600}/request.json"},
            {},
            r"env.MLRETRAIN_REQUEST_URI.*Choose a shorter artifacts_uri",
        ),
        (
            {"env": {"MLRETRAIN_REQUIREMENTS": "x" * 600}},
            {},
            r"Leave train.environment.requirements out",
        ),
        ({"env": {f"V{i}": "" for i in range(99)}}, {}, r"too many environment variables \(found 102"),
        ({}, {"tags": {"aws:name": "1"}}, r"sagemaker.tags: cannot be used \(found 'aws:name'"),
        ({}, {"tags": {"team": "a;b"}}, r"sagemaker.tags.team: cannot be used \(found 'a;b'"),
        ({}, {"tags": {f"t{i}": "" for i in range(48)}}, r"found 52; allowed: 50, labels included"),
        ({}, {"channels": {"a b": "s3://x/y"}}, r"sagemaker.channels: cannot be used \(found 'a b'"),
        ({}, {"channels": {"a": "/data"}}, r"sagemaker.channels.a: cannot be used \(found '/data'"),
        ({}, {"channels": {f"c{i}": "s3://x/y" for i in range(21)}}, r"found 21; allowed: 20 in a training"),
    ],
)
def test_what_cannot_work_is_told_before_anything_is_started(
    spec: dict[str, Any], options: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        made(*changed(spec, options))
    assert "t0p-secret" not in str(caught.value)


def test_the_page_about_permissions_has_policies_that_allow_what_is_called() -> None:
    page = (GOLDEN.parents[2] / "docs" / "sagemaker.md").read_text()
    policies = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", page, re.DOTALL)]
    airflow, role = ({name for each in policy["Statement"] for name in actions(each)} for policy in policies)
    jobs = {
        f"{verb}{kind}Job" for verb in ("Create", "Describe", "Stop") for kind in ("Training", "Processing")
    }
    assert airflow >= {*(f"sagemaker:{each}" for each in jobs), "sagemaker:AddTags", "iam:PassRole"}
    assert airflow >= {"logs:DescribeLogStreams", "logs:GetLogEvents"}
    assert "secretsmanager:GetSecretValue" in role


def actions(statement: Mapping[str, Any]) -> list[str]:
    found = statement["Action"]
    return [found] if isinstance(found, str) else found
