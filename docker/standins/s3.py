"""An S3 on a folder: rclone, and in front of it what it lacks, conditional writes (``If-None-Match: *``).

One lock orders conditional writes, so of many only the first succeeds. What it answers to a probe of
``/healthz`` is whether rclone answers.
"""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

DATA = Path("/data")
BEHIND = ("127.0.0.1", 8334)
CONDITIONAL = threading.Lock()
# Between two parties only, not between the client and rclone.
HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


class Handler(BaseHTTPRequestHandler):
    """Passes requests on, except those that ask for what rclone does not know."""

    protocol_version = "HTTP/1.1"

    def _handle(self) -> None:
        body = self._body()
        if self.path == "/healthz":
            self._pass_on("GET", "/", b"", {}, healthy=True)
        elif self.command == "PUT" and self.headers.get("If-None-Match") == "*":
            with CONDITIONAL:
                if (DATA / unquote(urlsplit(self.path).path).lstrip("/")).is_file():
                    self._answer(412, {}, b"<Error><Code>PreconditionFailed</Code></Error>")
                    return
                self._pass_on(self.command, self.path, body, dict(self.headers))
        else:
            self._pass_on(self.command, self.path, body, dict(self.headers))

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _handle  # noqa: N815

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _pass_on(
        self, method: str, path: str, body: bytes, headers: dict[str, str], *, healthy: bool = False
    ) -> None:
        kept = {name: value for name, value in headers.items() if name.lower() not in HOP | {"expect"}}
        if body or method in ("PUT", "POST"):
            kept["Content-Length"] = str(len(body))
        connection = http.client.HTTPConnection(*BEHIND, timeout=60)
        try:
            connection.request(method, path, body or None, kept)
            answer = connection.getresponse()
            data = answer.read()
        except OSError as error:
            self._answer(503, {}, str(error).encode())
            return
        finally:
            connection.close()
        if healthy:
            self._answer(200, {}, b"")
            return
        length = answer.headers.get("Content-Length") if method == "HEAD" else None
        self._answer(answer.status, dict(answer.headers), data, length=length)

    def _answer(
        self, status: int, headers: dict[str, str], data: bytes, *, length: str | None = None
    ) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", length or str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main() -> int:
    """Serve until rclone ends, whose exit status is the answer."""
    keys = f"{os.environ['AWS_ACCESS_KEY_ID']},{os.environ['AWS_SECRET_ACCESS_KEY']}"
    where = f"{BEHIND[0]}:{BEHIND[1]}"
    rclone = subprocess.Popen(["rclone", "serve", "s3", "--addr", where, "--auth-key", keys, str(DATA)])
    server = ThreadingHTTPServer(("0.0.0.0", 8333), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return rclone.wait()


if __name__ == "__main__":
    sys.exit(main())
