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

EVERYTHING = Path(__file__).parents[1] / "golden" / "everything"


def shuffled(value: Any, order: random.Random) -> Any:
    if isinstance(value, dict):
        keys = list(value)
        order.shuffle(keys)
        return {key: shuffled(value[key], order) for key in keys}
    return [shuffled(each, order) for each in value] if isinstance(value, list) else value


def plan_of(text: str) -> Plan:
    with TemporaryDirectory() as folder:
        root = Path(folder)
        for name in ("stacks", "suite.json"):
            (root / name).symlink_to(EVERYTHING / name)
        (root / "pipeline.yaml").write_text(text)
        return build_plan(load_source(root / "pipeline.yaml", {}, root))


@settings(max_examples=30, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_matter(order: random.Random) -> None:
    written = read_source(EVERYTHING / "pipeline.yaml").data
    plan = plan_of(json.dumps(shuffled(written, order)))
    assert wire.canonical(plan) == wire.canonical(plan_of((EVERYTHING / "pipeline.yaml").read_text()))
