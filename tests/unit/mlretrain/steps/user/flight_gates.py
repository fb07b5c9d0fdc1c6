"""Gates as users write them."""

from __future__ import annotations

from typing import Any

from mlretrain.gates.function import Evidence


def never_silent(evidence: Evidence) -> tuple[bool, int, str]:
    """Enough flights are called late."""
    called = int(evidence.candidate.values.sum())
    return called >= 10, called, f"≥ 10 late flights of {len(evidence.rows)}"


def fails(evidence: Evidence) -> Any:
    return evidence.rows["dep_dleay"].mean() < 1
