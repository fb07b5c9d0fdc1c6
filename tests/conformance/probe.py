"""The runtime with one more step, ``probe``, which behaves as a test of backends asks.

``python -P probe.py`` in place of ``python -m mlretrain.runtime``: request, store, report, signals and exit
codes are the runtime's own.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
import uuid
from dataclasses import dataclass
from typing import Any

from mlretrain.errors import InvalidInput
from mlretrain.runtime.__main__ import leave, main
from mlretrain.runtime.context import StepContext
from mlretrain.steps import STEPS


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What to do, and how often."""

    do: str
    times: int = 0


def run(config: Config, ctx: StepContext) -> dict[str, Any]:
    """Note that a job has started, then do as asked."""
    ctx.save_checkpoint(f"starts/{uuid.uuid4().hex}", b"")
    match config.do:
        case "succeed":
            return {"colour": ctx.env.get("COLOUR"), "request_uri": ctx.env.get("MLRETRAIN_REQUEST_URI")}
        case "keep a secret":
            return {"sha256": hashlib.sha256(ctx.env["PROBE_TOKEN"].encode()).hexdigest()}
        case "fail":
            raise ValueError("no such luck")
        case "refuse":
            raise InvalidInput("the data is of no use", where="probe")
        case "vanish":
            os._exit(0)
        case "hang":
            _hang(ctx)
        case "write":
            _write(config.times)
        case "write bytes":
            _say(b"caf\xe9 \xff\xfe\nna\xc3\xafve\n\xf0\x9f\x8c\x8d\n")
    return {}


def _hang(ctx: StepContext) -> None:
    ctx.save_checkpoint("up", b"")
    try:
        while True:
            ctx.save_checkpoint("beat", str(time.time()).encode())
            time.sleep(0.1)
    finally:
        ctx.save_checkpoint("saved", b"in time")


def _write(lines: int) -> None:
    """Numbered lines of about a hundred bytes, some of them blank-ended, with characters of several bytes."""
    for start in range(0, lines, 500):
        numbers = range(start, min(start + 500, lines))
        _say("".join(f"line {number} é日🌍 {'.' * 80}\n" for number in numbers).encode())


def _say(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    STEPS["probe"] = "__main__"
    leave(main(sys.argv[1:], os.environ))
