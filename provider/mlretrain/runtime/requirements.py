"""Whether this environment has the packages that a job asks for: an image may be older than the pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from mlretrain.errors import MissingExtra, UnmetRequirements

REQUIREMENTS = "MLRETRAIN_REQUIREMENTS"
"""The environment variable with the requirements, one on a line, as pip writes them."""


def check_requirements(env: Mapping[str, str]) -> None:
    """Return if every requirement of :data:`REQUIREMENTS` is installed.

    :raises UnmetRequirements: naming all that are missing, or installed in another version.
    """
    wanted = env.get(REQUIREMENTS, "").splitlines()
    if not wanted:
        return
    try:
        from packaging.requirements import InvalidRequirement, Requirement
    except ImportError:
        raise MissingExtra.of("packaging", "mlflow") from None
    wrong = []
    for line in wanted:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue  # a file: only the one who built the image knows
        if requirement.url or (requirement.marker and not requirement.marker.evaluate()):
            continue
        found = _version(requirement.name)
        if found is None or not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{line} ({f'{found} is installed' if found else 'not installed'})")
    if wrong:
        raise UnmetRequirements(
            "the job's image does not have what the pipeline requires",
            where="train.environment.requirements",
            found="; ".join(wrong),
            remedy="Build it anew: mlretrain image",
        )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
