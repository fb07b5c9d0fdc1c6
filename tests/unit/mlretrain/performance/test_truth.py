"""What a log's predictions can be judged by."""

from __future__ import annotations

import numpy as np
import pytest

from mlretrain.errors import InvalidInput
from mlretrain.performance.truth import judged
from mlretrain.scoring import PROBABILITY_METRICS, score


@pytest.mark.parametrize("metric", sorted(PROBABILITY_METRICS))
def test_answers_without_probabilities_are_not_judged_as_such(metric: str) -> None:
    said = np.array([0, 1, 2, 1])
    with pytest.raises(InvalidInput, match=f"{metric} needs probabilities"):
        judged(metric, said, said, None)


def test_probabilities_are_judged_by_whether_they_come_true() -> None:
    scores, labels = np.repeat([0.2, 0.7], 50), np.repeat([0, 1, 1, 0], [40, 10, 40, 10])
    known = judged("ece", scores, labels, None)
    assert score(["ece"], known.truth, known.predictions)["ece"] == pytest.approx(0.05)
