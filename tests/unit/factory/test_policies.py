"""The platform's policies: where they are found, whom they are about, and where their faults are told."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mlretrain_factory.cli import main
from mlretrain_factory.errors import SpecErrors
from mlretrain_factory.loader import PipelineSource, load_folder, load_source
from mlretrain_factory.policies import VARIABLE

GOOD = Path(__file__).parents[2] / "fixtures" / "good"
APPROVED = "{approval: {required: always}}"


@pytest.fixture
def dags(tmp_path: Path) -> Path:
    shutil.copytree(GOOD, tmp_path / "dags")
    return tmp_path / "dags"


def policy(folder: Path, name: str, require: str, about: str = "{}", suffix: str = "yaml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.{suffix}"
    path.write_text(f"version: 1\npolicy: {name}\napplies_to: {about}\nrequire: {require}\n")
    return path


def load(dags: Path, name: str = "churn", **environ: str) -> PipelineSource:
    return load_source(dags / f"{name}.pipeline.yaml", environ, dags)


def faults(dags: Path, name: str = "churn", **environ: str) -> list[str]:
    with pytest.raises(SpecErrors) as caught:
        load(dags, name, **environ)
    return [str(fault).replace(f"{dags}/", "") for fault in caught.value.errors]


def test_what_a_default_leaves_out_is_told_at_the_section(dags: Path) -> None:
    policy(dags / "policies", "asked", APPROVED)
    assert faults(dags) == [
        "churn.pipeline.yaml:9:1: promote.approval.required: policy `asked` demands approval, "
        "`required: always` (found never). Meet it, or ask who owns policies/asked.yaml."
    ]


def test_a_section_that_is_not_there_is_told_at_promote(dags: Path) -> None:
    policy(dags / "policies", "watched", "{guards: [error_rate]}")
    [fault] = faults(dags)
    assert fault.startswith("churn.pipeline.yaml:9:1: deploy.guards: policy `watched` demands a guard")


def test_what_is_inherited_is_told_where_it_is_written(dags: Path) -> None:
    policy(dags / "policies", "serious", "{mode: enforce}")
    (dags / "defaults.yaml").write_text("promote:\n  mode: dry_run\n")
    [fault] = faults(dags)
    assert fault.startswith("defaults.yaml:2:9: promote.mode: policy `serious` demands `mode: enforce`")


def test_every_demand_that_is_not_met_is_a_fault_beside_the_others(dags: Path) -> None:
    policy(dags / "policies", "strict", "{approval: {required: always}, gates: [{slices: all}]}")
    policy(dags / "policies", "stricter", "{smoke_test: clean, strategies: [canary]}")
    text = (dags / "churn.pipeline.yaml").read_text()
    (dags / "churn.pipeline.yaml").write_text(text + "owner: 3\n")
    assert [fault.split(": ")[1] for fault in faults(dags)] == ["owner"]
    (dags / "churn.pipeline.yaml").write_text(text)
    found = sorted(fault.split(": ")[1] for fault in faults(dags))
    assert found == ["deploy.strategy", "promote.approval.required", "promote.gates"]


@pytest.mark.parametrize(
    ("about", "applies"),
    [
        ("{}", True),
        ("{tags: [shop]}", True),
        ("{tags: [payments]}", False),
        ("{tags: [payments], owners: [ml]}", True),
        ("{tiers: [1]}", False),
        ("{tiers: [1, 2]}", True),
        ("{pipelines: ['ch*']}", True),
        ("{pipelines: [fraud]}", False),
    ],
)
def test_any_match_counts(dags: Path, about: str, applies: bool) -> None:
    policy(dags / "policies", "asked", APPROVED, about)
    file = dags / "churn.pipeline.yaml"
    file.write_text(file.read_text() + "tags: [shop]\nowner: ml\ntier: 2\n")
    if applies:
        assert len(faults(dags)) == 1
    else:
        assert load(dags).policies == ()


def test_a_policy_holds_below_its_folder_and_nowhere_else(dags: Path) -> None:
    policy(dags / "risky" / "policies", "asked", APPROVED, suffix="yml")
    shutil.copy(dags / "fraud.pipeline.yaml", dags / "risky" / "scam.pipeline.yaml")
    file = dags / "risky" / "scam.pipeline.yaml"
    file.write_text(file.read_text().replace("pipeline: fraud", "pipeline: scam"))
    result = load_folder(dags, environ={})
    assert list(result.errors) == [file]


def test_a_policy_that_cannot_be_read_refuses_what_is_in_its_reach(dags: Path) -> None:
    (dags / "policies").mkdir()
    (dags / "policies" / "tier-1.yaml").write_text("version: 1\npolicy: tier-1\nrequire: [\n")
    result = load_folder(dags, environ={})
    assert result.sources == ()
    [fault] = {str(error) for error in result.errors.values()}
    assert fault.startswith(f"{dags}/policies/tier-1.yaml:4:1: ")


def test_a_folder_of_the_platform_that_is_not_there_refuses_everything(dags: Path) -> None:
    [fault] = faults(dags, **{VARIABLE: str(dags / "nowhere")})
    assert "the folder of the platform's policies is not there" in fault
    assert "[mlretrain] policies" in fault


def test_the_folder_of_the_platform_comes_first_and_counts_once(dags: Path) -> None:
    policy(dags / "policies", "judged", "{gates: [{metric: roc_auc, min: 0.5}]}")
    folder = dags.parent / "platform"
    policy(folder, "enforced", "{mode: enforce}")
    assert [each.name for each in load(dags, **{VARIABLE: str(folder)}).policies] == ["enforced", "judged"]
    assert [each.name for each in load(dags, **{VARIABLE: str(dags / "policies")}).policies] == ["judged"]


def test_a_policy_has_no_variables(dags: Path) -> None:
    policy(dags / "policies", "asked", "{first_stage_at_most: '${share}'}")
    [fault] = faults(dags)
    assert fault.startswith("policies/asked.yaml:4:32: require.first_stage_at_most: not a whole number")


def test_lint_of_a_part_knows_the_policies_of_the_whole(
    dags: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy(dags / "policies", "asked", APPROVED)
    (dags / "team").mkdir()
    (dags / "churn.pipeline.yaml").rename(dags / "team" / "churn.pipeline.yaml")
    assert main(["lint", str(dags / "team")]) == 1
    assert "policy `asked` demands approval" in capsys.readouterr().err
