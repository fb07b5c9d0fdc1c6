"""The README's own examples are real: the YAML lints, the hand-written DAG builds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mlretrain_factory.loader import load_folder

ROOT = Path(__file__).resolve().parents[2]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_smallest_pipeline_is_complete(tmp_path: Path) -> None:
    pipeline, stack = blocks("yaml")[:2]
    (tmp_path / "stacks").mkdir()
    (tmp_path / "churn.pipeline.yaml").write_text(pipeline)
    (tmp_path / "stacks" / "local.yaml").write_text(stack)
    loaded = load_folder(tmp_path)
    assert not loaded.errors
    assert [source.spec.pipeline for source in loaded.sources] == ["churn"]


def test_smallest_hand_written_dag_builds() -> None:
    [source] = [each for each in blocks("python") if "with DAG(" in each]
    namespace: dict[str, Any] = {}
    exec(compile(source, "README.md", "exec"), namespace)
    dag = namespace["gate"].dag
    assert dag.dag_id == namespace["common"]["pipeline"]
    assert [task.task_id for task in dag.leaves] == ["promote"]
