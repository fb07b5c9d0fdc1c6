"""A command finds its pipeline by file or by name, and what its stack says of where everything is."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlretrain.errors import ConfigError
from mlretrain_factory.whereabouts import name_of, whereabouts

GOLDEN = Path(__file__).parents[2] / "golden"
GOOD = Path(__file__).parents[2] / "fixtures" / "good"


@pytest.fixture(autouse=True)
def _data_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_ROOT", "/data")


def test_a_name_is_found_below_the_folder() -> None:
    assert whereabouts("churn", GOOD.parent)["pipeline"] == "churn"
    assert whereabouts("churn", GOOD.parent) == whereabouts(str(GOOD / "churn.pipeline.yaml"), Path())


@pytest.mark.parametrize("case", ["canary", "kubernetes", "sagemaker", "monitor_only"])
def test_it_says_what_the_plan_says(case: str) -> None:
    from mlretrain_factory.loader import load_source
    from mlretrain_factory.plan.build import build_plan

    file = GOLDEN / case / "pipeline.yaml"
    found = whereabouts(str(file), Path())
    dag = build_plan(load_source(file)).dags[-1]
    assert {key: value for key, value in found.items() if key in dag.defaults and value} == {
        key: dag.defaults[key] for key in dag.defaults if key in found
    }
    assert found.get("serving") == dag.tasks[0].args.get("serving")


def test_what_is_not_there_is_told_with_what_is_like_it() -> None:
    with pytest.raises(ConfigError, match=r"no such pipeline \(found 'chorn'; allowed: churn\)"):
        whereabouts("chorn", GOOD)


def test_a_name_that_two_have_is_nobodys(tmp_path: Path) -> None:
    for team in ("a", "b"):
        (tmp_path / team).mkdir()
        (tmp_path / team / "churn.pipeline.yaml").write_text("")
    with pytest.raises(ConfigError, match="two files of this name"):
        whereabouts("churn", tmp_path)


def test_the_name_alone_reads_no_file(tmp_path: Path) -> None:
    assert name_of("churn") == "churn"
    assert name_of(str(tmp_path / "churn.pipeline.yml")) == "churn"
    assert name_of(str(GOLDEN / "canary" / "pipeline.yaml")) == "canary"
