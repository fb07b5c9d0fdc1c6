"""The end of a step's process: quick, and nothing that the interpreter promises is lost."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import atexit, concurrent.futures, sys, threading, time
from mlretrain.runtime.__main__ import leave

atexit.register(print, "exit function")
concurrent.futures.ThreadPoolExecutor(1).submit(lambda: (time.sleep(0.2), print("pool")))
threading.Thread(target=lambda: (time.sleep(0.1), print("thread"))).start()
sys.stdout.write("main\\n")
leave(11)
"""


def test_threads_pools_exit_functions_and_streams_are_finished() -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM], check=False, capture_output=True, text=True)
    assert ended.returncode == 11
    assert ended.stdout.split("\n") == ["main", "thread", "pool", "exit function", ""]
    assert ended.stderr == ""
