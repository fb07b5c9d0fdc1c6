"""The smoke test: the packaged model is loaded apart from all that trained it, and answers as it did there.

A model that fails is an ordinary result of the step, so that the promotion gate rejects it with the reason.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from mlretrain.errors import TransientError, UnmetRequirements
from mlretrain.runtime.fingerprint import MODEL_TAG, SIGNATURE_TAG, fingerprint, signature_digest
from mlretrain.runtime.installer import cause, checked, install
from mlretrain.runtime.package import fetch
from mlretrain.runtime.rehearsal import Rehearsal, rehearse_apart
from mlretrain.runtime.requirements import REQUIREMENTS, check_requirements
from mlretrain.runtime.store import read_uri
from mlretrain.runtime.tracking import tracking
from mlretrain.verdict import Check, number
from mlretrain.wire import from_wire, pretty

if TYPE_CHECKING:
    from mlretrain.runtime.context import StepContext

Environment = Literal["clean", "job"]

logger = logging.getLogger("mlretrain")

_NEGLIGIBLE = 1e-6
"""Of the largest number of an answer; smaller ones are compared as if they were that large."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Which model, and what it must be; the request's ``frozen`` facts hold the fingerprints in its tags.

    :param requirements: what the model says it needs.
    :param model_sha256: :func:`~mlretrain.runtime.fingerprint.fingerprint` of what training packed; empty:
        nobody knows.
    :param example_uri: the rehearsal in the environment that trained it.
    :param environment: whether the test is to be in an environment made of the requirements, or the job's.
    :param install: make that environment now, in the job; if not, the job runs in it.
    :param tolerance: how far a number of the answer may be from what it was in training, relatively.
    :param longest_s: seconds that loading and answering may take together.
    """

    model_uri: str
    requirements: tuple[str, ...] = ()
    model_sha256: str = ""
    signature_sha256: str = ""
    example_uri: str | None = None
    environment: Environment = "clean"
    install: bool = False
    tolerance: float = 1e-6
    longest_s: float = 600.0


def run(config: Config, ctx: StepContext) -> dict[str, Any]:
    """Whether the model passed, why, and every check that was come to; the first that fails is the last.

    :raises TransientError: MLflow did not answer.
    """
    environment = config.environment
    with tracking(ctx.env), tempfile.TemporaryDirectory() as scratch:
        with ctx.phase("download"):
            folder = fetch(config.model_uri, scratch)
        checks = list(_until_one_fails(_unchanged(config, ctx, folder)))
        if checks[-1].passed:
            place = _place(config, ctx, Path(scratch))
            environment = place.environment
            checks += _until_one_fails(_rehearsed(config, ctx, folder, place))
    passed, reason = outcome(checks, environment)
    return {
        "passed": passed,
        "reason": reason,
        "environment": environment,
        "checks": checks,
        "checks_uri": ctx.write_output("checks", "checks.json", pretty(checks)),
        "seconds": dict(ctx.timings),
    }


def outcome(checks: Sequence[Check], environment: Environment) -> tuple[bool, str]:
    """Whether all held, and one sentence on it."""
    failed = next((each for each in checks if not each.passed), None)
    if failed is not None:
        return False, failed.note or f"{failed.name}: {failed.observed}, required {failed.required}"
    where = "an environment of its own requirements" if environment == "clean" else "the job's environment"
    return True, f"the model is unchanged, and answers its input example in {where} as it did in training"


class _Place(NamedTuple):
    """An environment to test in: what it is, its interpreter, and whether it has what the model needs."""

    environment: Environment
    python: str
    check: Check


def _place(config: Config, ctx: StepContext, scratch: Path) -> _Place:
    """Where the package index does not answer the job, the job's own environment has to do."""
    if not config.install:
        return _Place(config.environment, sys.executable, _installed(config))
    packages, missing, python = config.requirements, None, Path(sys.executable)
    try:
        with ctx.phase("install"):
            wanted = [checked(each) for each in packages]
            python = install(scratch / "environment", wanted, packages, _alone(ctx.env))
    except UnmetRequirements as error:
        missing = f"the model's requirements cannot be installed: {cause(error)}"
    except TransientError as error:
        logger.warning("No clean environment can be made here, the job's own is used: %s", error)
        return _Place("job", sys.executable, _installed(config))
    return _Place("clean", str(python), _requirements(config, because=missing))


def _alone(env: Mapping[str, str]) -> dict[str, str]:
    """The installer's variables, but for the pins of the job's image; there may be no home for a cache."""
    kept = {name: value for name, value in env.items() if name not in ("UV_CONSTRAINT", "PIP_CONSTRAINT")}
    return {**kept, "UV_NO_CACHE": "1", "PIP_NO_CACHE_DIR": "1"}


def _until_one_fails(checks: Iterable[Check]) -> Iterator[Check]:
    for check in checks:
        yield check
        if not check.passed:
            return


def _unchanged(config: Config, ctx: StepContext, folder: Path) -> Iterator[Check]:
    tags = ctx.request.frozen
    yield _same_digest("files", fingerprint(folder), config.model_sha256, tags.get(MODEL_TAG))
    yield _same_digest(
        "signature", signature_digest(folder), config.signature_sha256, tags.get(SIGNATURE_TAG)
    )


def _rehearsed(config: Config, ctx: StepContext, folder: Path, place: _Place) -> Iterator[Check]:
    yield place.check
    with ctx.phase("rehearsal"):
        found = rehearse_apart(folder, env=ctx.env, longest_s=config.longest_s, python=place.python)
    ctx.timings.update(found.seconds)
    yield from _performed(found)
    if config.example_uri is not None:
        known = from_wire(Rehearsal, json.loads(read_uri(config.example_uri, ctx.env)))
        yield _same(found, known, config.tolerance)


def _check(name: str, *, observed: str, required: str, because: str | None) -> Check:
    """A check that failed if there is a sentence ``because``."""
    return Check(name=name, passed=because is None, observed=observed, required=required, note=because)


def _same_digest(what: str, found: str, *wanted: str | None) -> Check:
    known = sorted({each for each in wanted if each})
    required = " and ".join(each[:12] for each in known) or "not known"
    changed = f"the model's {what} changed since training: SHA-256 {found[:12]}, required {required}"
    same = all(each == found for each in known)
    return _check(what, observed=found[:12], required=required, because=None if same else changed)


def _installed(config: Config) -> Check:
    try:
        check_requirements({REQUIREMENTS: "\n".join(config.requirements)})
    except UnmetRequirements as error:
        missing = f"the environment does not have what the model requires: {error.found}"
        return _requirements(config, because=missing)
    return _requirements(config, because=None)


def _requirements(config: Config, *, because: str | None) -> Check:
    return _check(
        "requirements",
        observed="missing" if because else "installed",
        required=f"all {len(config.requirements)} of the model",
        because=because,
    )


def _performed(found: Rehearsal) -> Iterator[Check]:
    yield _check(
        "loading",
        observed=f"{found.seconds.get('load', 0.0):.1f} s" if found.loaded else "failed",
        required="the model is loaded",
        because=None if found.loaded else f"the model cannot be loaded: {found.failure}",
    )
    asked, answered = found.rows, found.answered
    has_example = found.failure or asked
    yield _check(
        "input example",
        observed=_rows(asked),
        required="a row or more",
        because=None if has_example else "the model has no input example: log it with input_example=…",
    )
    yield _check(
        "answer",
        observed=_rows(answered),
        required=_rows(asked),
        because=None if answered == asked and not found.failure else _no_answer(found),
    )
    empty = sum(each is None for each in _leaves(found.answer))
    yield _check(
        "values",
        observed=f"{empty} null or not finite",
        required="none",
        because=f"{empty} values of the answer are null or not finite" if empty else None,
    )
    yield _check(
        "output schema",
        observed=found.misfit or "fits",
        required="the answer fits the signature",
        because=found.misfit and f"the answer does not fit the model's signature: {found.misfit}",
    )


def _rows(number: int | None) -> str:
    return "none" if number is None else f"{number} rows"


def _no_answer(found: Rehearsal) -> str:
    if found.failure:
        return f"the model does not answer its input example: {found.failure}"
    return f"the model answers {found.answered} rows where {found.rows} are asked"


def _same(found: Rehearsal, known: Rehearsal, tolerance: float) -> Check:
    difference = largest_difference(found.answer, known.answer)
    here, there = (json.dumps(each.answer)[:80] for each in (found, known))
    other = f"the model answers otherwise than where it was trained: {here} for {there}"
    return _check(
        "same answer",
        observed=f"differs by {number(difference)}" if math.isfinite(difference) else "another",
        required=f"≤ {number(tolerance)} from training's, relatively",
        because=None if difference <= tolerance else other,
    )


def largest_difference(found: Any, known: Any) -> float:
    """Of any two numbers in the same place, relative to the larger; infinite if anything else differs."""
    least = _NEGLIGIBLE * max((abs(each) for each in _leaves(known) if _is_number(each)), default=0.0)
    return _difference(found, known, least)


def _difference(found: Any, known: Any, least: float) -> float:
    if _is_number(found) and _is_number(known):
        scale = max(abs(found), abs(known), least)
        return abs(found - known) / scale if scale else 0.0
    if isinstance(found, dict) and isinstance(known, dict) and found.keys() == known.keys():
        return max((_difference(found[name], known[name], least) for name in found), default=0.0)
    if isinstance(found, list) and isinstance(known, list) and len(found) == len(known):
        return max((_difference(*pair, least) for pair in zip(found, known, strict=True)), default=0.0)
    return 0.0 if found == known and type(found) is type(known) else math.inf


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, (dict, list)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _leaves(each)
    else:
        yield value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
