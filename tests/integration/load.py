"""A load generator in a process of its own: ``python load.py HOST PORT PATH CONNECTIONS SECONDS [ROW]``.

Every connection stays open and sends one request at a time; each request is one row with a serial number of
its own in the column ``serial``, beside the columns of the JSON object ROW. Prints, as one JSON object,
what came back: ``requests`` is a list of ``[serial, status, version, sent at, latency in ms]``.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

Request = tuple[int, int, str, float, float]


async def connection(
    address: tuple[str, int], path: str, serials: Any, until: float, row: dict[str, Any]
) -> list[Request]:
    """One keep-alive connection; a request that gets no answer has status 0 and is the connection's last."""
    reader, writer = await asyncio.open_connection(*address)
    done: list[Request] = []
    while time.monotonic() < until:
        serial = next(serials)
        body = json.dumps({"dataframe_records": [{**row, "serial": serial}]}).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: {address[0]}\r\nContent-Type: application/json\r\n"
        at, started = time.time(), time.perf_counter()
        try:
            writer.write(head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            status, version = await answer(reader)
        except (OSError, EOFError):
            status, version = 0, ""
        done.append((serial, status, version, at, 1000 * (time.perf_counter() - started)))
        if not status:
            break
    writer.close()
    return done


async def answer(reader: asyncio.StreamReader) -> tuple[int, str]:
    """Status and ``X-Model-Version`` of the next answer, which is read to its end."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    await reader.readexactly(int(headers["content-length"]))
    return int(lines[0].split()[1]), headers.get("x-model-version", "")


async def main(host: str, port: str, path: str, connections: str, seconds: str, row: str = "{}") -> None:
    """Run the load and print what came back."""
    serials = iter(range(sys.maxsize))
    until = time.monotonic() + float(seconds)
    parts = await asyncio.gather(
        *(
            connection((host, int(port)), path, serials, until, json.loads(row))
            for _ in range(int(connections))
        )
    )
    sys.stdout.write(json.dumps({"requests": [each for part in parts for each in part]}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
