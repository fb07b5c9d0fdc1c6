"""The measuring steps: validate, profile, trial, train, evaluate, smoke, performance, score.

Each runs as one job. A step's module has a frozen dataclass ``Config`` and ``run(config, ctx) -> dict``; the
result is plain JSON. It is imported when its step runs, so that a job pays only for the libraries of its own
step.
"""

from __future__ import annotations

STEPS = {
    "validate": "mlretrain.steps.validate",
    "profile": "mlretrain.steps.profile",
    "trial": "mlretrain.steps.trial",
    "train": "mlretrain.steps.train",
    "evaluate": "mlretrain.steps.evaluate",
    "smoke": "mlretrain.steps.smoke",
    "performance": "mlretrain.steps.performance",
    "score": "mlretrain.steps.score",
}
"""Step name to module."""

SHARED = frozenset({"trial", "train"})
"""The steps in which several nodes work together; in the others there is work for rank 0 only."""
