"""``python upload_flights.py s3://bucket/folder [EVERY]``: the flights of 2013 as Parquet files in S3."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from flights import lay_out

from mlretrain.runtime.store import open_store


def main(root_uri: str, every: int = 1) -> None:
    """Write what ``demo/flights.py`` makes, keeping one flight in ``every``."""
    store = open_store(root_uri)
    with tempfile.TemporaryDirectory() as folder:
        lay_out(Path(folder), every=every)
        for file in sorted(Path(folder).glob("*.parquet")):
            store.write(file.name, file.read_bytes())
            sys.stdout.write(f"{root_uri}/{file.name}\n")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
