"""Load on a Service: ``python load_of_service.py HOST PORT PATH CONNECTIONS STOP ROW EACH PAUSE``.

Strict, as a caller without retries is: a connection that is refused is a failed request, with status 0 and
the error as its version. It begins once the Service is there at all, of which a node's proxy hears a moment
after the API, and ends once there is a file STOP. Every connection sends one request at a time, PAUSE seconds
apart; it is opened again after EACH requests (0: never), or if the server says that it closes it. Each
request is one row, the JSON object ROW with a serial number of its own. Prints, as one JSON object, what came
back: ``requests`` is a list of ``[serial, status, version, sent at, latency in ms]``.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Request = tuple[int, int, str, float, float]


@dataclass(frozen=True, slots=True)
class Load:
    """What every connection sends, until the file ``stop`` appears."""

    address: tuple[str, int]
    path: str
    stop: Path
    row: dict[str, Any]
    each: int
    pause_s: float

    async def caller(self, serials: Iterator[int]) -> list[Request]:
        """One connection after another."""
        done: list[Request] = []
        while not self.stop.exists():
            done += await self._connection(serials)
        return done

    async def _connection(self, serials: Iterator[int]) -> list[Request]:
        done: list[Request] = []
        opened: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        closes = False
        while not self.stop.exists() and not closes:
            serial, at, started = next(serials), time.time(), time.perf_counter()
            try:
                opened = opened or await asyncio.open_connection(*self.address)
                opened[1].write(self._request(serial))
                status, version, closes = await answer(opened[0])
            except (OSError, EOFError) as error:
                status, version, closes = 0, repr(error), True
            done.append((serial, status, version, at, 1000 * (time.perf_counter() - started)))
            closes = closes or len(done) == self.each
            await asyncio.sleep(self.pause_s)
        if opened:
            opened[1].close()
        return done

    def _request(self, serial: int) -> bytes:
        body = json.dumps({"dataframe_records": [{**self.row, "serial": serial}]}).encode()
        head = f"POST {self.path} HTTP/1.1\r\nHost: {self.address[0]}\r\nContent-Type: application/json\r\n"
        return head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body


async def answer(reader: asyncio.StreamReader) -> tuple[int, str, bool]:
    """The next answer, read to its end: status, ``X-Model-Version``, whether the connection closes."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    await reader.readexactly(int(headers["content-length"]))
    closes = headers.get("connection", "").lower() == "close"
    return int(lines[0].split()[1]), headers.get("x-model-version", ""), closes


async def appeared(address: tuple[str, int]) -> None:
    """Returns once the Service is there: a node's proxy hears of a new one a moment after the API."""
    while True:
        try:
            _, writer = await asyncio.open_connection(*address)
            writer.close()
            return
        except OSError:
            await asyncio.sleep(0.1)


async def main(
    host: str, port: str, path: str, connections: str, stop: str, row: str, each: str, pause: str
) -> None:
    """Run the load and print what came back."""
    await appeared((host, int(port)))
    serials = iter(range(sys.maxsize))
    load = Load((host, int(port)), path, Path(stop), json.loads(row), int(each), float(pause))
    parts = await asyncio.gather(*(load.caller(serials) for _ in range(int(connections))))
    sys.stdout.write(json.dumps({"requests": [each for part in parts for each in part]}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
