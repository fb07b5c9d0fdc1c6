"""What is kept about scores: one note for each partition, and one for all, written last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from mlretrain.batch.output import MANIFESTS, SUCCESS, Output, Published
from mlretrain.wire import from_wire, to_wire

Schema = tuple[Mapping[str, str], ...]
"""``{name, type}`` of each column, Arrow's types."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One partition as it was scored.

    :param asked: a digest of rows, versions with their shares and files, and columns: the same is not done
        again.
    :param window: the window it belongs to, as it is written in paths.
    :param versions: rows by version.
    :param mirrored: what mirrored versions said; ``None`` if none was asked.
    """

    asked: str
    input: str
    window: str
    versions: Mapping[str, int]
    schema: Schema
    served: Published
    mirrored: Published | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        """The objects it speaks of."""
        return (self.served.path, *((self.mirrored.path,) if self.mirrored else ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Success:
    """All partitions of a dataset, scored; the content of ``_SUCCESS``.

    :param versions: ``{weight, mirrored, rows, model_sha256}`` of each.
    :param partitions: what is served, sorted by path.
    :param dataset: ``{uri, dataset_uri, fingerprint, start, end}``.
    """

    pipeline: str
    model: str
    run_id: str
    window_end: datetime
    written_at: datetime
    generation: int
    rows: int
    schema: Schema
    versions: Mapping[str, Mapping[str, Any]]
    dataset: Mapping[str, Any]
    partitions: tuple[Published, ...] = field(default=())


def manifest_path(path: str) -> str:
    """Where the note about the partition at ``path`` is."""
    return f"{MANIFESTS}/{path.removesuffix('.parquet')}.json"


def read_manifest(output: Output, path: str) -> Manifest | None:
    """The note about the partition at ``path``, if there is one."""
    found = output.read_json(manifest_path(path))
    return from_wire(Manifest, found) if found is not None else None


def is_done(output: Output, manifest: Manifest | None, asked: str) -> bool:
    """Whether the partition has been scored as it is asked for now, and its objects are untouched."""
    if manifest is None or manifest.asked != asked:
        return False
    published = (manifest.served, *((manifest.mirrored,) if manifest.mirrored else ()))
    return all(output.etag(each.path) == each.etag for each in published)


def write_manifest(output: Output, manifest: Manifest) -> None:
    """Note that a partition is scored."""
    output.write_json(manifest_path(manifest.served.path), to_wire(manifest))


def remove_leftovers(output: Output, window: str, wanted: set[str]) -> int:
    """Remove what an earlier scoring of the same window has left and this one does not have; how many."""
    removed = 0
    for path in output.list(f"{MANIFESTS}/"):
        manifest = from_wire(Manifest, output.read_json(path))
        if manifest.window == window and manifest.served.path not in wanted:
            for each in (*manifest.paths, path):
                output.remove(each)
            removed += 1
    return removed


def has_leftovers(output: Output, window: str, wanted: set[str]) -> bool:
    """Whether :func:`remove_leftovers` would remove anything."""
    known = (output.read_json(path) for path in output.list(f"{MANIFESTS}/"))
    return any(each["window"] == window and each["served"]["path"] not in wanted for each in known)


def finished(output: Output, success: Success) -> bool:
    """Whether ``_SUCCESS`` says the same already, but for who wrote it and when."""
    known = output.read_json(SUCCESS)
    if known is None:
        return False
    now = to_wire(success)
    return all(
        known.get(name) == now[name] for name in ("rows", "schema", "versions", "dataset", "partitions")
    )
