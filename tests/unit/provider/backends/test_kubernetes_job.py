"""What is created on a cluster: golden manifests, which the client's own typed models know in every field."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlretrain.errors import ConfigError
from mlretrain.ports import JobSpec, Resources
from mlretrain_provider.backends.kubernetes_job import (
    job_manifest,
    job_name,
    merged,
    owner_reference,
    quantity,
    secret_manifest,
    service_manifest,
)
from mlretrain_provider.backends.kubernetes_options import KubernetesOptions

GOLDEN = Path(__file__).parents[3] / "golden" / "kubernetes_jobs"

SPEC = JobSpec(name="churn-train-0a1b2c3d4e5f-1", request_uri="s3://ml/artifacts/churn/request.json")
OPTIONS = KubernetesOptions(image="registry/team/churn:3")
FULL_SPEC = JobSpec(
    name="Vorhersage/Kündigung 1",
    request_uri="s3://ml/artifacts/churn/request.json",
    env={"MLRETRAIN_ATTEMPT": "1", "AWS_REGION": "eu", "GREETING": "$(HOME) costs $5"},
    secrets={"AWS_SECRET_ACCESS_KEY": "never-in-a-manifest"},
    timeout_s=3600.5,
    resources=Resources(cpu=0.5, memory=3 << 29, gpu=1),
    image="registry/team/churn:4",
    labels={
        "pipeline": "churn",
        "run_id": "manual__2026-11-21T04:40:53.123456+00:00",
        "task_id": "train_" + "x" * 80,
    },
)
FULL_OPTIONS = KubernetesOptions(
    image="registry/team/churn:3",
    image_pull_policy="Always",
    image_pull_secrets=["registry"],
    service_account="trainer",
    node_selector={"pool": "gpu"},
    tolerations=[{"key": "nvidia.com/gpu", "operator": "Exists"}],
    labels={"team": "fraud"},
    annotations={"cost-center": "42"},
    env={"OMP_NUM_THREADS": "1", "AWS_REGION": "us"},
    env_from_secrets=["mlflow"],
    env_from_config_maps=["settings"],
    volumes=[{"name": "scratch", "emptyDir": {}}],
    volume_mounts=[{"name": "scratch", "mountPath": "/scratch"}],
    priority_class="batch",
    ttl_s=3600,
    grace_s=90.5,
    pod_template={
        "metadata": {"annotations": {"sidecar.istio.io/inject": "false"}},
        "spec": {
            "securityContext": {"runAsNonRoot": True},
            "enableServiceLinks": None,
            "containers": [
                {
                    "name": "main",
                    "workingDir": "/app",
                    "env": [{"name": "OMP_NUM_THREADS", "value": "4"}],
                    "volumeMounts": [
                        {"name": "scratch", "mountPath": "/scratch", "subPath": "a"},
                        {"name": "scratch", "mountPath": "/tmp"},
                    ],
                }
            ],
        },
    },
)
OWNER = {"metadata": {"name": "churn-train-0a1b2c3d4e5f-1", "uid": "1-2-3"}}
NODES = replace(SPEC, nodes=3)
CASES: dict[str, Mapping[str, Any]] = {
    "smallest": job_manifest(SPEC, OPTIONS),
    "everything": job_manifest(FULL_SPEC, FULL_OPTIONS),
    "secret": secret_manifest(FULL_SPEC),
    "queue": job_manifest(SPEC, replace(OPTIONS, queue="team-queue")),
    "nodes": job_manifest(NODES, OPTIONS),
    "nodes-service": service_manifest(NODES, owner_reference(OWNER)),
}


@pytest.mark.parametrize("case", CASES)
def test_a_manifest(case: str, request: pytest.FixtureRequest) -> None:
    golden, found = GOLDEN / f"{case}.json", json.dumps(CASES[case], indent=1, sort_keys=True) + "\n"
    if request.config.getoption("--update-golden"):
        golden.write_text(found)
    assert found == golden.read_text()


@pytest.mark.parametrize("case", CASES)
def test_every_field_is_one_of_the_api(case: str) -> None:
    client = pytest.importorskip("kubernetes.client")
    manifest = CASES[case]
    api = client.ApiClient()
    model = api._ApiClient__deserialize(manifest, f"V1{manifest['kind']}")
    assert api.sanitize_for_serialization(model) == manifest


def test_no_secret_is_in_the_job() -> None:
    assert "never-in-a-manifest" not in json.dumps(CASES["everything"])
    assert "never-in-a-manifest" in json.dumps(CASES["secret"])


@pytest.mark.parametrize(
    ("name", "nodes"),
    [("churn-1", 1), ("x" * 300, 1), ("9-lives", 1), ("日本語", 1), ("x" * 63, 100), ("Übung 9", 10)],
)
def test_any_name_is_a_jobs_and_a_services_with_room_for_the_rank(name: str, nodes: int) -> None:
    spec = replace(SPEC, name=name, nodes=nodes)
    host = job_name(spec) + (f"-{nodes - 1}" if nodes > 1 else "")
    assert len(host) <= 63
    assert job_name(spec)[0].isalpha()
    assert set(job_name(spec)) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert job_name(spec) == job_name(replace(spec, request_uri="other"))
    assert job_name(spec) != job_name(replace(spec, name=name + "!"))


def test_a_plain_name_is_kept() -> None:
    assert job_name(SPEC) == SPEC.name


def test_an_image_is_needed() -> None:
    with pytest.raises(ConfigError, match="needs an image"):
        job_manifest(SPEC, KubernetesOptions())


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (1000, "1000"), (512 << 20, "512Mi"), (3 << 29, "1536Mi"), (2 << 40, "2Ti")],
)
def test_a_quantity(number: int, text: str) -> None:
    assert quantity(number) == text


@pytest.mark.parametrize(
    ("ours", "theirs", "both"),
    [
        ({"a": 1, "b": {"c": 2}}, {"b": {"d": 3}}, {"a": 1, "b": {"c": 2, "d": 3}}),
        ({"a": 1, "b": 2}, {"a": None}, {"b": 2}),
        (
            {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
            {"env": [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}]},
            {
                "env": [
                    {"name": "A", "value": "1"},
                    {"name": "B", "value": "3"},
                    {"name": "C", "value": "4"},
                ]
            },
        ),
        ({"tolerations": [{"key": "a"}]}, {"tolerations": [{"key": "b"}]}, {"tolerations": [{"key": "b"}]}),
        ({"command": ["a"]}, {"command": ["b", "c"]}, {"command": ["b", "c"]}),
        ({"a": "x"}, {"a": ""}, {"a": ""}),
    ],
)
def test_a_template_is_laid_over_ours(ours: Any, theirs: Any, both: Any) -> None:
    before = json.dumps([ours, theirs])
    assert merged(ours, theirs) == both
    assert json.dumps([ours, theirs]) == before
