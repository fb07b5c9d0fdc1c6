"""Gates fail closed: nothing that cannot be computed promotes or advances."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from mlretrain.gates.canary import Guard, Sighting, judge_canary
from mlretrain.gates.evidence import markdown
from mlretrain.gates.promotion import Evaluation, Gate, Interval, Scores, judge
from mlretrain.ports import VersionStats
from mlretrain.wire import from_wire, to_wire

scores = st.none() | st.floats()
bounds = st.none() | st.floats(-2, 2)


def evaluation(
    candidate: float | None, champion: float | None, low: float | None, *, hashes: tuple[str, str]
) -> Evaluation:
    return Evaluation(
        holdout_sha256="a",
        rows=100,
        candidate=Scores(
            holdout_sha256=hashes[0], metrics={} if candidate is None else {"roc_auc": candidate}
        ),
        champion=Scores(holdout_sha256=hashes[1], metrics={} if champion is None else {"roc_auc": champion}),
        champion_version="7",
        differences={}
        if low is None
        else {"roc_auc": Interval(estimate=0.0, low=low, high=1.0, confidence=0.95)},
    )


@given(scores, scores, scores, bounds, bounds, st.sampled_from([None, 0.9, 0.95, 0.99]), st.booleans())
def test_promotion_needs_every_number(
    candidate: float | None,
    champion: float | None,
    low: float | None,
    least: float | None,
    improvement: float | None,
    confidence: float | None,
    same: bool,
) -> None:
    gates = [Gate(metric="roc_auc", versus="champion", min_improvement=improvement, confidence=confidence)]
    if least is not None:
        gates.append(Gate(metric="roc_auc", min=least))
    evidence = evaluation(candidate, champion, low, hashes=("a", "a" if same else "b"))
    verdict = judge(gates, evidence)
    if verdict.verdict == "promote":
        assert same
        assert candidate is not None
        assert champion is not None
        assert abs(candidate) < float("inf")
        assert abs(champion) < float("inf")
        if least is not None:
            assert candidate >= least
        if confidence is None:
            assert candidate - champion >= (improvement or 0.0)
        else:
            assert low is not None
            assert low >= (improvement or 0.0)
            assert confidence <= 0.95
    assert (verdict.verdict == "promote") == all(check.passed for check in verdict.checks)
    assert markdown(verdict.checks).count("\n") == len(verdict.checks) + 2
    wired = json.loads(json.dumps(to_wire(evidence), allow_nan=False))
    assert to_wire(from_wire(Evaluation, wired)) == wired


latencies = st.none() | st.floats(0, 1000)


@given(
    st.integers(0, 300),
    st.floats(0, 1),
    latencies,
    st.integers(0, 300),
    st.floats(0, 0.5),
)
def test_a_canary_advances_only_on_enough_good_requests(
    requests: int, failing: float, p95: float | None, min_requests: int, most: float
) -> None:
    stats = VersionStats(requests=requests, errors=int(requests * failing), latency_p95_ms=p95)
    guards = [Guard(metric="error_rate", max=most), Guard(metric="latency_p95_ms", max=200)]
    verdict = judge_canary(guards, Sighting(stats=stats), min_requests=min_requests)
    spent = stats.errors > most * max(requests, min_requests)
    slow = p95 is not None and p95 > 200 and requests >= min_requests
    if verdict.verdict == "roll_back":
        assert spent or slow
    if slow or stats.errors > max(20, 20 * most * max(requests, min_requests)):
        assert verdict.verdict == "roll_back"
    if verdict.verdict == "advance":
        assert requests >= max(1, min_requests)
        assert p95 is not None
        assert p95 <= 200
