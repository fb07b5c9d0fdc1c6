"""A load generator of its own process: ``python load.py HOST PORT PATH CONNECTIONS SECONDS [ROW [RATE]]``.

Every connection stays open and sends one request at a time; each request is one row with a serial number of
its own in the column ``serial``, beside the columns of the JSON object ROW, or of an array of these, which
take turns. With RATE so many requests are sent per second, else as many as are answered. A server that closes
a connection after an answer, is not there or not ready, is connected to again, as a load balancer would. It
ends after SECONDS or on SIGTERM and prints, as one JSON object, what came back: ``requests`` is a list of
``[serial, status, version, sent at, latency in ms]``.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from typing import Any

Request = tuple[int, int, str, float, float]
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]

PAUSE_S = 0.02
"""Between attempts to connect."""


async def connection(
    address: tuple[str, int], path: str, turn: Turns, rows: list[dict[str, Any]]
) -> list[Request]:
    """One caller; a request that was sent and got no answer has status 0."""
    opened: Connection | None = None
    done: list[Request] = []
    while True:
        serial = await turn()
        opened = opened or await connect(address, turn)
        if serial is None or opened is None:
            break
        body = json.dumps({"dataframe_records": [{**rows[serial % len(rows)], "serial": serial}]}).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: {address[0]}\r\nContent-Type: application/json\r\n"
        at, started = time.time(), time.perf_counter()
        try:
            opened[1].write(head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            status, version, closes = await answer(opened[0])
        except (OSError, EOFError):
            status, version, closes = 0, "", True
        done.append((serial, status, version, at, 1000 * (time.perf_counter() - started)))
        if closes:
            opened[1].close()
            opened = None
    if opened:
        opened[1].close()
    return done


async def connect(address: tuple[str, int], turn: Turns) -> Connection | None:
    """A connection as soon as the server says that it is ready; none if the time is up before."""
    while not turn.over():
        try:
            reader, writer = await asyncio.open_connection(*address)
            writer.write(f"GET /ready HTTP/1.1\r\nHost: {address[0]}\r\n\r\n".encode())
            status, _, closes = await answer(reader)
            if status != 503 and not closes:
                return reader, writer
            writer.close()
        except (OSError, EOFError):
            pass
        await asyncio.sleep(PAUSE_S)
    return None


class Turns:
    """Serial numbers, given out one by one, at ``rate`` per second if there is one."""

    def __init__(self, seconds: float, rate: float) -> None:
        self._started = time.monotonic()
        self._until = self._started + seconds
        self._rate = rate
        self._serial = 0

    def end(self) -> None:
        """Give out no more."""
        self._until = 0.0

    def over(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() >= self._until

    async def __call__(self) -> int | None:
        """The next serial number, when it is due; ``None`` when the time is up."""
        serial = self._serial
        self._serial += 1
        if self._rate:
            await asyncio.sleep(self._started + serial / self._rate - time.monotonic())
        return None if self.over() else serial


async def answer(reader: asyncio.StreamReader) -> tuple[int, str, bool]:
    """The next answer, read to its end: status, ``X-Model-Version``, whether the connection closes."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    await reader.readexactly(int(headers["content-length"]))
    closes = headers.get("connection", "").lower() == "close"
    return int(lines[0].split()[1]), headers.get("x-model-version", ""), closes


async def main(
    host: str, port: str, path: str, connections: str, seconds: str, row: str = "{}", rate: str = "0"
) -> None:
    """Run the load and print what came back."""
    turns = Turns(float(seconds), float(rate))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, turns.end)
    given = json.loads(row)
    rows = given if isinstance(given, list) else [given]
    callers = (connection((host, int(port)), path, turns, rows) for _ in range(int(connections)))
    parts = await asyncio.gather(*callers)
    sys.stdout.write(json.dumps({"requests": [each for part in parts for each in part]}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
