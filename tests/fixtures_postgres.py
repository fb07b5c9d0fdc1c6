"""A real PostgreSQL server for tests: on a free port of the loopback, its state in a folder of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.free_port import free_port

START_S = 60.0
PASSWORD = "a/secret pa$$word"  # a connection's URI must quote it


UNPROVED = "NOTHING IS PROVED ON POSTGRESQL: psycopg is missing"


@contextmanager
def postgres_server() -> Iterator[dict[str, Any]]:
    """What ``psycopg.connect`` needs to reach a server that lives as long as the block.

    Skips the test where there is no server to start, or nothing to speak to it with.
    """
    psycopg = pytest.importorskip("psycopg", reason=UNPROVED)
    missing = [name for name in ("initdb", "postgres") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"NOTHING IS PROVED ON POSTGRESQL: {' and '.join(missing)} must be on the PATH")
    with tempfile.TemporaryDirectory(prefix="mlretrain-pg-") as scratch:
        root, account = Path(scratch), _account()
        if account:
            os.chown(root, account["user"], account["group"])
        _initialise(root, account)
        where: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": free_port(),
            "user": "monitor",
            "password": PASSWORD,
        }
        server = _start(root, where["port"], account)
        try:
            where["dbname"] = "postgres"
            _wait(psycopg, server, where, root / "log")
            yield where
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(30)


def _account() -> Mapping[str, Any]:
    """PostgreSQL refuses to run as root, who can be somebody else."""
    if os.getuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": ()}


def _initialise(root: Path, account: Mapping[str, Any]) -> None:
    secret = root / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    command = ["initdb", "-D", str(root / "data"), "-U", "monitor", "--pwfile", str(secret)]
    command += ["--auth=scram-sha-256", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8"]
    command += ["--locale-provider=icu", "--icu-locale=en-US"]  # sorts as people do, not by bytes
    subprocess.run(command, check=True, capture_output=True, cwd=root, **account)


def _start(root: Path, port: int, account: Mapping[str, Any]) -> subprocess.Popen[bytes]:
    settings = {"listen_addresses": "127.0.0.1", "port": port, "fsync": "off", "unix_socket_directories": ""}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    with (root / "log").open("wb") as output:
        return subprocess.Popen(
            ["postgres", "-D", str(root / "data"), *options],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=root,
            **account,
        )


def _wait(psycopg: Any, server: subprocess.Popen[bytes], where: Mapping[str, Any], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            psycopg.connect(**where).close()
        except psycopg.OperationalError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"PostgreSQL does not start:\n{log.read_text(errors='replace')[-4000:]}")
