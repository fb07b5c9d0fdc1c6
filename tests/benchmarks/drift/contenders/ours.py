"""``python ours.py REFERENCE CURRENT``: profile the window by the stored reference profile, and compare.

``python ours.py --train FILE REFERENCE`` stores the reference profile, once, when a model is trained.
"""

import json
import sys
from pathlib import Path

from mlretrain.data.read import connect
from mlretrain.drift.policy import DriftPolicy, compare
from mlretrain.drift.profile import DriftProfile, build_profile
from mlretrain.wire import canonical, from_wire, to_wire


def main(arguments: list[str]) -> None:
    con = connect()
    if arguments[0] == "--train":
        rows = con.read_parquet(arguments[1])
        time_column = "t" if "t" in rows.columns else None
        profile = build_profile(rows, time_column=time_column, chunk_s=7 * 86_400)
        Path(arguments[2]).write_bytes(canonical(to_wire(profile)))
    else:
        reference = from_wire(DriftProfile, json.loads(Path(arguments[0]).read_text()))
        current = build_profile(con.read_parquet(arguments[1]), exclude=["t"], reference=reference)
        print(compare(reference, current, DriftPolicy()).summary)


if __name__ == "__main__":
    main(sys.argv[1:])
