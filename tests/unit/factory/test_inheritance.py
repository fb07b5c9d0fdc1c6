from __future__ import annotations

from pathlib import Path

import pytest

from mlretrain_factory.errors import SpecErrors
from mlretrain_factory.inheritance import find_stack, inherited
from mlretrain_factory.source_map import parse


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_the_nearer_file_wins_key_by_key(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "defaults.yaml": "owner: all\ntags: [a]\ntrain: {retries: 1, timeout: 1h}\n",
            "team/defaults.yaml": "owner: team\nextends: base.yaml\n",
            "team/base.yaml": "owner: base\ntrain: {retries: 5}\n",
            "team/x.pipeline.yaml": "tags: [b]\ntrain: {timeout: 2h}\n",
        },
    )
    assert inherited(tmp_path / "team/x.pipeline.yaml", tmp_path).data == {
        "owner": "team",
        "extends": "base.yaml",
        "tags": ["b"],
        "train": {"retries": 5, "timeout": "2h"},
    }


def test_nothing_above_the_root_is_read(tmp_path: Path) -> None:
    write(tmp_path, {"defaults.yaml": "owner: above\n", "dags/x.pipeline.yaml": "version: 1\n"})
    assert inherited(tmp_path / "dags/x.pipeline.yaml", tmp_path / "dags").data == {"version": 1}


def test_without_a_root_the_search_ends_at_the_project(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "defaults.yaml": "owner: above\n",
            "repo/pyproject.toml": "",
            "repo/dags/x.pipeline.yaml": "version: 1\n",
        },
    )
    assert inherited(tmp_path / "repo/dags/x.pipeline.yaml", None).data == {"version": 1}


def test_extends_stays_inside_of_the_root(tmp_path: Path) -> None:
    write(tmp_path, {"secret.yaml": "owner: x\n", "dags/x.pipeline.yaml": "extends: ../secret.yaml\n"})
    with pytest.raises(SpecErrors, match=r"x\.pipeline\.yaml:1:10: extends: outside of the DAGs folder"):
        inherited(tmp_path / "dags/x.pipeline.yaml", tmp_path / "dags")


def test_the_nearest_stack_is_found(tmp_path: Path) -> None:
    write(tmp_path, {"stacks/local.yaml": "", "a/stacks/local.yaml": "", "a/b/x.pipeline.yaml": ""})
    name = parse("stack: local", "f").value["stack"]
    assert find_stack(name, tmp_path / "a/b/x.pipeline.yaml", tmp_path) == tmp_path / "a/stacks/local.yaml"
    assert find_stack(name, tmp_path / "x.pipeline.yaml", tmp_path) == tmp_path / "stacks/local.yaml"
