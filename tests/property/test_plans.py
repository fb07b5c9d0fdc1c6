"""A plan depends on what a pipeline says, not on how it is written down."""

from __future__ import annotations

import json
import random
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mlretrain import wire
from mlretrain_factory.loader import load_source
from mlretrain_factory.plan.build import build_plan
from mlretrain_factory.plan.model import Plan
from mlretrain_factory.source_map import read_source

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = {"everything": "local", "kubernetes": "cluster", "sagemaker": "cloud", "tune": "local"}


def shuffled(value: Any, order: random.Random) -> Any:
    if isinstance(value, dict):
        keys = list(value)
        order.shuffle(keys)
        return {key: shuffled(value[key], order) for key in keys}
    return [shuffled(each, order) for each in value] if isinstance(value, list) else value


def plan_of(case: str, pipeline: str, stack: str) -> Plan:
    with TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "stacks").mkdir()
        (root / "suite.json").symlink_to(GOLDEN / "everything" / "suite.json")
        (root / "stacks" / f"{CASES[case]}.yaml").write_text(stack)
        (root / "pipeline.yaml").write_text(pipeline)
        return build_plan(load_source(root / "pipeline.yaml", {}, root))


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(CASES)), st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_matter(case: str, order: random.Random) -> None:
    files = [GOLDEN / case / "pipeline.yaml", GOLDEN / case / "stacks" / f"{CASES[case]}.yaml"]
    written = [read_source(file).data for file in files]
    plan = plan_of(case, *(json.dumps(shuffled(each, order)) for each in written))
    assert wire.canonical(plan) == wire.canonical(plan_of(case, *(file.read_text() for file in files)))
