"""The pages on the YAML are true: their tables are the spec's own, and their examples load."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import BaseModel

from mlretrain_factory.errors import SpecErrors
from mlretrain_factory.loader import PipelineSource, load_source
from mlretrain_factory.plan.build import build_plan
from mlretrain_factory.spec.backend import KubernetesSpec, LocalSpec, SagemakerSpec
from mlretrain_factory.spec.blackout import BlackoutSpec
from mlretrain_factory.spec.deployment import DeploymentSpec, PredictionLogSpec, StageSpec
from mlretrain_factory.spec.drift import ColumnDriftSpec, DomainDriftSpec, DriftDefaultsSpec, DriftSpec
from mlretrain_factory.spec.gate import GateSpec
from mlretrain_factory.spec.guard import GuardSpec
from mlretrain_factory.spec.monitoring import MonitoringSpec, QualitySpec, WindowDataSpec
from mlretrain_factory.spec.notification import NotificationSpec
from mlretrain_factory.spec.performance import LabelsSpec, PerformanceSpec
from mlretrain_factory.spec.policy import (
    AppliesToSpec,
    PolicySpec,
    RequiredApprovalSpec,
    RequireSpec,
)
from mlretrain_factory.spec.promotion import ApprovalSpec, PromotionSpec
from mlretrain_factory.spec.quantity import format_duration
from mlretrain_factory.spec.retraining import EscalationSpec, PageSpec, RetrainingSpec, WindowsSpec
from mlretrain_factory.spec.scoring import ScoresSpec, ScoringScheduleSpec, ScoringSpec
from mlretrain_factory.spec.serving import (
    KubernetesServingSpec,
    LocalServingSpec,
    OtherServingSpec,
    SagemakerServingSpec,
)
from mlretrain_factory.spec.stack import StackSpec

DOCS = Path(__file__).parents[3] / "docs"
GOOD = Path(__file__).parents[2] / "fixtures" / "good"
SECTIONS: dict[str, tuple[type[BaseModel], ...]] = {
    "stacks": (
        StackSpec,
        LocalSpec,
        KubernetesSpec,
        SagemakerSpec,
        LocalServingSpec,
        KubernetesServingSpec,
        SagemakerServingSpec,
        OtherServingSpec,
    ),
    "promotion": (
        PromotionSpec,
        GateSpec,
        ApprovalSpec,
        DeploymentSpec,
        StageSpec,
        GuardSpec,
        PredictionLogSpec,
        NotificationSpec,
        PolicySpec,
        AppliesToSpec,
        RequireSpec,
        RequiredApprovalSpec,
    ),
    "serving": (ScoringSpec, ScoresSpec, ScoringScheduleSpec),
    "monitoring": (
        MonitoringSpec,
        WindowDataSpec,
        DriftSpec,
        DriftDefaultsSpec,
        ColumnDriftSpec,
        DomainDriftSpec,
        QualitySpec,
        PerformanceSpec,
        LabelsSpec,
        RetrainingSpec,
        WindowsSpec,
        BlackoutSpec,
        EscalationSpec,
        PageSpec,
    ),
}


def table(section: type[BaseModel]) -> str:
    rows = [
        f"| `{field.alias or name}` | {field.description}{default(field.default)} |"
        for name, field in section.model_fields.items()
    ]
    return "\n".join(["| key | |", "|---|---|", *rows])


def default(value: object) -> str:
    """What is said of a key's default; nothing of one that its description tells, or that says nothing."""
    if isinstance(value, timedelta):
        return f" Default: `{format_duration(value)}`."
    if isinstance(value, (str, int, float)) and value not in ("", False):
        return f" Default: `{json.dumps(value).strip(chr(34))}`."
    return ""


@pytest.mark.parametrize("page", SECTIONS)
def test_the_tables_are_the_specs_own(page: str, request: pytest.FixtureRequest) -> None:
    sections = {each.__name__: each for each in SECTIONS[page]}

    def fill(found: re.Match[str]) -> str:
        return f"<!-- keys of {found[1]} -->\n{table(sections[found[1]])}\n<!-- end -->"

    doc = DOCS / f"{page}.md"
    filled, count = re.subn(
        r"<!-- keys of (\w+) -->\n.*?<!-- end -->", fill, doc.read_text(), flags=re.DOTALL
    )
    if request.config.getoption("--update-golden"):
        doc.write_text(filled)
    assert doc.read_text() == filled
    assert count == len(sections)


def examples(page: str) -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", (DOCS / f"{page}.md").read_text(), re.DOTALL)


def example(page: str) -> str:
    return examples(page)[0]


def churn(folder: Path, pipeline: str, stack: str) -> PipelineSource:
    (folder / "stacks").mkdir()
    (folder / "stacks" / "local.yaml").write_text(stack)
    path = folder / "churn.pipeline.yaml"
    path.write_text(pipeline)
    return load_source(path, {}, folder)


def test_the_example_of_a_stack_loads(tmp_path: Path) -> None:
    text = (GOOD / "churn.pipeline.yaml").read_text() + "team: fraud\n"
    stack = example("stacks") + "serving: {conn_id: models}\n"
    source = churn(tmp_path, re.sub(r"file:///data", "${data_uri}", text), stack)
    assert source.stack.kubernetes is not None
    assert (source.stack.kubernetes.namespace, source.stack.vars["data_uri"]) == ("fraud", "s3://fraud")
    assert source.spec.data.training.uri.startswith("s3://fraud/")


def test_the_example_of_a_monitor_loads(tmp_path: Path) -> None:
    text = (GOOD / "churn.pipeline.yaml").read_text() + example("monitoring")
    source = churn(tmp_path, text, (GOOD / "stacks" / "local.yaml").read_text())
    monitor = build_plan(source).dag("monitor")
    assert monitor is not None
    assert "no `notify`" not in monitor.doc_md


def test_the_example_of_a_promotion_loads(tmp_path: Path) -> None:
    text = (GOOD / "churn.pipeline.yaml").read_text()
    own = "".join(each for each in text.splitlines(keepends=True) if not each.startswith("evaluate:"))
    text = own[: own.index("promote:")] + example("promotion")
    source = churn(tmp_path, text, (GOOD / "stacks" / "local.yaml").read_text())
    retrain = build_plan(source).dag("retrain")
    assert retrain is not None
    assert "Then alice or bob must approve within 1d and give a reason; no answer rejects." in retrain.doc_md


@pytest.mark.parametrize("text", [each for each in examples("serving") if each.startswith("serving:")])
def test_the_examples_of_serving_load(text: str, tmp_path: Path) -> None:
    stack = f"version: 1\nartifacts_uri: s3://ml\nimage: ml:1\n{text}"
    source = churn(tmp_path, (GOOD / "churn.pipeline.yaml").read_text(), stack)
    assert source.stack.serving is not None


def test_the_example_of_a_scoring_loads(tmp_path: Path) -> None:
    (text,) = (each for each in examples("serving") if each.startswith("score:"))
    pipeline = (GOOD / "churn.pipeline.yaml").read_text() + text
    score = build_plan(churn(tmp_path, pipeline, (GOOD / "stacks" / "local.yaml").read_text())).dag("score")
    assert score is not None
    assert "The champion scores every row." in score.doc_md


def test_the_example_of_a_policy_loads_and_says_what_the_example_lacks(tmp_path: Path) -> None:
    written, policy = examples("promotion")[:2]
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "tier-1.yaml").write_text(policy)
    text = (GOOD / "churn.pipeline.yaml").read_text()
    head = "".join(each for each in text.splitlines(keepends=True) if not each.startswith("evaluate:"))
    with pytest.raises(SpecErrors) as caught:
        churn(
            tmp_path,
            head[: head.index("promote:")] + written.replace("bob", "carol"),
            (GOOD / "stacks" / "local.yaml").read_text(),
        )
    assert [fault.path for fault in caught.value.errors] == ["promote.approval.assignees"]
