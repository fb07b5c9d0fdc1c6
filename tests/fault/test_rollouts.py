"""After any schedule of breaches, crashes, doubled and late tasks and outages all agree on who serves.

A seed that fails is repeated by ``pytest "tests/fault/test_rollouts.py::test_a_seeded_rollout[<batch>]"``.
"""

from __future__ import annotations

from collections import Counter

import pytest

from tests.fault.rollouts import World

SEEDS, BATCH = 1200, 50


@pytest.mark.parametrize("batch", range(SEEDS // BATCH))
def test_a_seeded_rollout(batch: int) -> None:
    failed = {}
    happened: Counter[str] = Counter()
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        world = World(seed).run()
        happened += world.happened
        if found := world.violations():
            failed[seed] = (found, dict(world.happened))
    assert failed == {}, f"{happened}"
