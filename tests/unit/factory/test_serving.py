"""Where models are served: each target's own keys, teams, third parties; and what the targets take."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from mlretrain_factory.errors import SpecErrors
from mlretrain_factory.loader import load_source
from mlretrain_factory.plan.build import build_plan
from mlretrain_factory.plan.model import Plan

GOLDEN = Path(__file__).parents[2] / "golden"
ROLE = "arn:aws:iam::123456789012:role/models"
CLUSTER = (
    "namespace: ml, image: models:1, image_pull_policy: Always, image_pull_secrets: [registry], replicas: 2, "
    "port: 9000, resources: {cpu: 500m, memory: 1Gi, gpu: 1}, gpu_resource: amd.com/gpu, "
    "service_account: ml, env_secret: mlflow, env: {LOG: debug}, volumes: [{name: v, emptyDir: {}}], "
    "volume_mounts: [{name: v, mountPath: /v}], labels: {a: b}, annotations: {c: d}, node_selector: {e: f}, "
    "tolerations: [{key: g}], priority_class: high, pod_template: {spec: {}}, command: [serve], log_dir: /v, "
    "drain: 10s, ready_timeout: 5m"
)
EVERY_KEY = {
    "local": "{target: local, conn_id: models}",
    "kubernetes": f"{{target: kubernetes, conn_id: k8s, {CLUSTER}, max_replicas: 8, gateway: infra/gw, "
    "hostnames: [models.example]}",
    "kserve": f"{{target: kserve, conn_id: k8s, {CLUSTER}}}",
    "sagemaker": f"{{target: sagemaker, conn_id: aws, role_arn: '{ROLE}', image: models:1, "
    "instance_type: ml.m5.large, instance_count: 2, endpoint_prefix: shop-, model_s3_uri: s3://models/x, "
    "kms_key: k, volume_kms_key: v, subnets: [s-1], security_group_ids: [g-1], network_isolation: true, "
    "env: {LOG: debug}, tags: {a: b}, alarms: [high], alarm_wait: 10m, ready_timeout: 30m, "
    "startup_timeout: 5m}",
    "batch": "{target: batch}",
}


def plan_of(folder: Path, serving: str, *, more: str = "", team: str = "", deploy: str = "") -> Plan:
    (folder / "stacks").mkdir(exist_ok=True)
    (folder / "stacks" / "local.yaml").write_text(
        f"version: 1\nartifacts_uri: s3://artifacts\nserving: {serving}\n{more}"
    )
    text = (GOLDEN / "direct" / "pipeline.yaml").read_text().replace("${data_root}", "file:///data")
    text = text[: text.index("deploy:")] + deploy if deploy else text
    (folder / "pipeline.yaml").write_text(f"{text}{team}")
    return build_plan(load_source(folder / "pipeline.yaml", {}, folder))


def serving_of(plan: Plan) -> dict[str, Any]:
    found = [task.args["serving"] for dag in plan.dags for task in dag.tasks if "serving" in task.args]
    assert found
    assert all(each == found[0] for each in found)
    return dict(found[0])


@pytest.mark.airflow
@pytest.mark.parametrize("target", EVERY_KEY)
def test_every_key_of_a_target_is_an_option_of_its_class(target: str, tmp_path: Path) -> None:
    targets = pytest.importorskip("mlretrain_provider.targets")
    if importlib.util.find_spec(targets.TARGETS[target].partition(":")[0]) is None:
        pytest.skip(f"there is no target {target} yet")
    from mlretrain_factory.spec import serving as spec

    serving = serving_of(plan_of(tmp_path, EVERY_KEY[target]))
    section = getattr(spec, f"{target.title()}ServingSpec")
    keys = {
        f"{name}_s" if "timedelta" in str(field.annotation) else name
        for name, field in section.model_fields.items()
    }
    assert keys == set(serving)
    around = targets.Surroundings(pipeline="shop", artifacts_uri="s3://artifacts")
    assert targets.open_target(serving, around)


def test_times_are_seconds_and_sizes_are_bytes(tmp_path: Path) -> None:
    serving = serving_of(plan_of(tmp_path, EVERY_KEY["kubernetes"]))
    assert (serving["target"], serving["drain_s"], serving["ready_timeout_s"]) == ("kubernetes", 10, 300)
    assert serving["resources"] == {"cpu": 0.5, "memory": 2**30, "gpu": 1}


def test_a_connection_alone_is_the_model_server(tmp_path: Path) -> None:
    assert serving_of(plan_of(tmp_path, "{conn_id: models}")) == {"target": "local", "conn_id": "models"}


def test_the_stack_has_an_image_for_servers_too(tmp_path: Path) -> None:
    serving = serving_of(plan_of(tmp_path, "{target: kubernetes}", more="image: shop:1\n"))
    assert serving == {"target": "kubernetes", "image": "shop:1"}


def test_a_team_changes_keys_of_a_target(tmp_path: Path) -> None:
    more = "image: shop:1\nteams: {fraud: {serving: {namespace: fraud, replicas: 3}}}\n"
    plan = plan_of(tmp_path, "{target: kubernetes, namespace: ml, port: 81}", more=more, team="team: fraud\n")
    own = {"target": "kubernetes", "image": "shop:1", "namespace": "fraud", "replicas": 3, "port": 81}
    assert serving_of(plan) == own


def test_a_target_of_a_team_is_in_place_of_the_stacks(tmp_path: Path) -> None:
    more = "teams: {fraud: {serving: {target: kserve, image: shop:1}}}\n"
    plan = plan_of(tmp_path, "{target: local, conn_id: models}", more=more, team="team: fraud\n")
    assert serving_of(plan) == {"target": "kserve", "image": "shop:1"}


def test_a_third_party_gets_its_options_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpecErrors, match="unknown target"):
        plan_of(tmp_path, "{target: abacus, options: {rows: 4}}")
    monkeypatch.setattr("mlretrain_factory.spec.serving.third_parties", lambda: {"abacus"})
    plan = plan_of(tmp_path, "{target: abacus, conn_id: beads, options: {rows: 4, beads: {red: 1}}}")
    assert serving_of(plan) == {"target": "abacus", "conn_id": "beads", "rows": 4, "beads": {"red": 1}}


def test_a_key_of_another_target_is_named_with_those_of_this_one(tmp_path: Path) -> None:
    with pytest.raises(SpecErrors) as caught:
        plan_of(tmp_path, f"{{target: sagemaker, image: a:1, role_arn: '{ROLE}', instance_typ: ml.m5.large}}")
    missing, unknown = caught.value.errors
    assert "Such as `ml.m5.large`" in missing.remedy
    assert (unknown.path, unknown.remedy) == ("serving.instance_typ", "Did you mean `instance_type`?")


@pytest.mark.parametrize("serving", ["{target: local, conn_id: models}", "{target: batch}"])
def test_a_shadow_is_compared_where_somebody_compares(serving: str, tmp_path: Path) -> None:
    shadow = (
        "deploy: {strategy: shadow, stages: [{traffic: 10}], guards: [{metric: disagreement, max: 0.1}]}\n"
    )
    plan = plan_of(tmp_path, serving, deploy=shadow)
    assert any(task.args.get("mode") == "mirror" for task in plan.dags[0].tasks)
