"""``python predictions.py FOLDER s3://…``: copy what the model server logs to S3, where monitoring reads it.

The log's files appear whole and never change, so each is copied once; S3 is asked at the start which it has.
"""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

from mlretrain.errors import TransientError
from mlretrain.ports import ArtifactStore
from mlretrain.runtime.store import open_store

EVERY_S = 10.0
ALIVE = Path("/tmp/alive")
"""Touched after each round, for the health check."""


def copy(folder: Path, store: ArtifactStore, known: set[str]) -> None:
    """Copy the files that are not ``known`` yet, and know them."""
    for file in sorted(folder.rglob("part-*.parquet")):
        name = file.relative_to(folder).as_posix()
        if name not in known:
            store.create(name, file.read_bytes())
            known.add(name)
            sys.stdout.write(f"{name}\n")
            sys.stdout.flush()


def main(folder: Path, root_uri: str) -> None:
    """Go on until asked to stop; S3 that does not answer is asked again."""
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    store, known = open_store(root_uri), None
    while True:
        last = over.is_set()
        try:
            known = set(store.list("")) if known is None else known
            copy(folder, store, known)
            ALIVE.touch()
        except TransientError as error:
            sys.stderr.write(f"{error}\n")
        if last:
            return
        over.wait(EVERY_S)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
