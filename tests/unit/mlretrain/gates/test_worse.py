"""What a person is to look at: a candidate that is worse somewhere, though its gates hold."""

from __future__ import annotations

from mlretrain.gates.evaluation import Evaluation, Scores, SliceScores
from mlretrain.gates.gate import Gate
from mlretrain.gates.worse import MOST, worse

AUC = Gate(metric="roc_auc", min=0.5)
SLICES = Gate(metric="roc_auc", slices="all", max_drop=0.1, min_support=50)


def scores(slices: dict[str, tuple[int, float]] | None = None, **metrics: float) -> Scores:
    carriers = {name: SliceScores(n=n, metrics={"roc_auc": auc}) for name, (n, auc) in (slices or {}).items()}
    return Scores(holdout_sha256="a", metrics=metrics, slices={"carrier": carriers} if slices else {})


def evaluation(candidate: Scores, champion: Scores | None) -> Evaluation:
    return Evaluation(
        holdout_sha256="a",
        rows=100,
        candidate=candidate,
        champion=champion,
        champion_version="7" if champion else None,
    )


def test_a_better_or_equal_candidate_is_not_worse() -> None:
    assert worse([AUC], evaluation(scores(roc_auc=0.8), scores(roc_auc=0.8))) == ()
    assert worse([AUC], evaluation(scores(roc_auc=0.9), scores(roc_auc=0.8))) == ()


def test_without_any_champion_nothing_is_worse() -> None:
    assert worse([AUC], evaluation(scores(roc_auc=0.6), None)) == ()


def test_the_estimates_are_compared_in_the_better_direction() -> None:
    gates = [AUC, AUC, Gate(metric="log_loss", max=2), Gate(metric="latency_p95_ms", max=50)]
    ours = scores(roc_auc=0.79, log_loss=0.5, latency_p95_ms=12)
    theirs = scores(roc_auc=0.8, log_loss=0.6, latency_p95_ms=8)
    assert worse(gates, evaluation(ours, theirs)) == (
        "roc_auc is 0.79, the champion's 0.8",
        "latency_p95_ms is 12, the champion's 8",
    )


def test_the_worst_slice_is_named_and_small_ones_are_not_looked_at() -> None:
    ours = scores({"AA": (100, 0.7), "UA": (100, 0.6), "HA": (10, 0.1), "DL": (100, 0.9)}, roc_auc=0.8)
    theirs = scores({"AA": (100, 0.72), "UA": (100, 0.66), "HA": (10, 0.9), "DL": (100, 0.8)}, roc_auc=0.8)
    assert worse([SLICES], evaluation(ours, theirs)) == (
        "roc_auc of carrier=UA is 0.6, the champion's 0.66 (the worst of 2 slices that are worse)",
    )
    assert worse([AUC], evaluation(ours, theirs)) == ()


def test_what_is_not_known_counts_as_worse() -> None:
    assert worse([AUC], evaluation(scores(roc_auc=0.9), scores())) == (
        "roc_auc is 0.9, the champion's not measured",
    )
    assert worse([AUC], evaluation(scores(roc_auc=float("nan")), scores(roc_auc=0.1))) != ()
    unscored = Evaluation(holdout_sha256="a", rows=1, candidate=scores(roc_auc=0.9), champion_version="7")
    assert worse([AUC], unscored) != ()


def test_there_are_never_too_many_clauses() -> None:
    metrics = (
        "roc_auc",
        "accuracy",
        "f1",
        "precision",
        "recall",
        "r2",
        "log_loss",
        "brier",
        "ece",
        "rmse",
        "mae",
    )
    gates = [Gate(metric=name, max=1) for name in metrics]
    clauses = worse(gates, evaluation(scores(), scores()))
    assert len(clauses) == MOST
    assert clauses[-1] == f"{len(metrics) - MOST + 1} more are worse"
