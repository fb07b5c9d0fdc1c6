"""This very distribution as a wheel, made of the files that are running, however they were installed."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

from mlretrain.errors import ConfigError

DISTRIBUTION = "airflow-provider-mlretrain"
_PACKAGES = ("mlretrain", "mlretrain_provider", "mlretrain_factory")
_TAGS = "Wheel-Version: 1.0\nGenerator: mlretrain\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def build_wheel(folder: Path) -> Path:
    """A wheel in ``folder`` with the packages and the metadata of this installation, be it editable or not.

    Raises :class:`~mlretrain.errors.ConfigError` if the distribution is not installed at all.
    """
    own = _own()
    name = f"{DISTRIBUTION.replace('-', '_')}-{own.version}"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-py3-none-any.whl"
    info = {"METADATA": own.read_text("METADATA") or "", "WHEEL": _TAGS}
    entry_points = own.read_text("entry_points.txt")
    if entry_points:
        info["entry_points.txt"] = entry_points
    records = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        contents = dict(_files()) | {f"{name}.dist-info/{file}": text.encode() for file, text in info.items()}
        for file, data in contents.items():
            wheel.writestr(file, data)
            sha256 = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            records.append(f"{file},sha256={sha256},{len(data)}\n")
        record = f"{name}.dist-info/RECORD"
        wheel.writestr(record, "".join((*records, f"{record},,\n")))
    return path


def source_digest() -> str:
    """A digest of all that :func:`build_wheel` puts into the wheel."""
    found = hashlib.sha256((_own().read_text("METADATA") or "").encode())
    for name, data in _files():
        found.update(f"{name} {len(data)}\n".encode() + data)
    return found.hexdigest()


def needed_for_s3() -> list[str]:
    """What a job needs to reach S3, as the extra ``amazon`` says it, but without Airflow's provider."""
    return [each.partition(";")[0].strip() for each in _own().requires or () if each.startswith("boto3")][:1]


def _own() -> Distribution:
    try:
        return distribution(DISTRIBUTION)
    except PackageNotFoundError as error:
        raise ConfigError(
            f"{DISTRIBUTION} is not installed",
            where="train.environment.requirements",
            remedy=f"Jobs with requirements need it installed: pip install {DISTRIBUTION}",
        ) from error


def _files() -> Iterator[tuple[str, bytes]]:
    """Every file of our packages: its path in the wheel and its bytes, in a fixed order."""
    for package in _PACKAGES:
        spec = find_spec(package)
        for place in (spec.submodule_search_locations or ()) if spec else ():
            root = Path(place)
            for path in sorted(root.rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts:
                    yield f"{package}/{path.relative_to(root).as_posix()}", path.read_bytes()
