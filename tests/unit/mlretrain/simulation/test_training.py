"""Answers of several models are scored as one."""

from __future__ import annotations

import numpy as np

from mlretrain.scoring import Predictions
from mlretrain.simulation.training import _together


def test_a_class_that_a_model_does_not_know_has_no_chance() -> None:
    two = Predictions(values=np.array(["a"]), probabilities=np.array([[0.7, 0.3]]), classes=("a", "c"))
    three = Predictions(
        values=np.array(["b"]), probabilities=np.array([[0.1, 0.8, 0.1]]), classes=("a", "b", "c")
    )

    found = _together([two, three])

    assert found.classes == ("a", "b", "c")
    assert found.values.tolist() == ["a", "b"]
    assert found.probabilities is not None
    assert found.probabilities.tolist() == [[0.7, 0.0, 0.3], [0.1, 0.8, 0.1]]


def test_without_probabilities_there_are_only_answers() -> None:
    numbers = Predictions(values=np.array([1.5, 2.5]))

    assert _together([numbers, numbers]).values.tolist() == [1.5, 2.5, 1.5, 2.5]
