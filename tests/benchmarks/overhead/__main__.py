"""``python -m tests.benchmarks.overhead``: script and pipeline in turn, and where the time goes."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from demo.services import Services

ROUNDS = 5
ROWS = 5_000
DAG_ID = "tiny.retrain"


def make_rows(path: Path) -> None:
    """Write a seeded two-class problem of :data:`ROWS` rows and ten features."""
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(0)
    features = random.normal(size=(ROWS, 10))
    target = (features[:, 0] + features[:, 1] + random.normal(size=ROWS) > 0).astype(int)
    pd.DataFrame(features, columns=[f"x{i}" for i in range(10)]).assign(y=target).to_parquet(path)


def time_script(services: Services, rows: Path) -> float:
    """Wall seconds of the whole command."""
    started = time.perf_counter()
    command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.overhead.script", str(rows)]
    subprocess.run(
        command, env=services.env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    return time.perf_counter() - started


def time_pipeline(services: Services, run_id: str) -> float:
    """Wall seconds from the trigger to the end of the run."""
    started = time.perf_counter()
    services.trigger(DAG_ID, run_id, {"reason": "benchmark"})
    if services.wait(DAG_ID, run_id) != "success":
        raise SystemExit(f"the pipeline failed: {services.task_states(DAG_ID, run_id)}")
    return time.perf_counter() - started


def breakdown(services: Services, run_id: str) -> list[tuple[str, float, float, dict[str, float]]]:
    """Per task: seconds waited since the task before it, seconds run, and the job's own timings."""
    answer = services.api(f"dags/{DAG_ID}/dagRuns/{run_id}/taskInstances")
    tasks = [task for task in answer["task_instances"] if task["start_date"]]
    tasks.sort(key=lambda task: task["start_date"])
    rows: list[tuple[str, float, float, dict[str, float]]] = []
    before = _seconds((services.run(DAG_ID, run_id) or {})["queued_at"])
    for task in tasks:
        start, end = _seconds(task["start_date"]), _seconds(task["end_date"])
        rows.append(
            (task["task_id"], start - before, end - start, _timings(services, run_id, task["task_id"]))
        )
        before = end
    return rows


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _timings(services: Services, run_id: str, task_id: str) -> dict[str, float]:
    step = task_id.removesuffix("_data")
    found = list((services.home / "artifacts" / "tiny" / "runs" / run_id).glob(f"{step}-*/report.json"))
    return dict(json.loads(found[0].read_text())["timings"]) if found else {}


def main() -> int:
    dags = Path(__file__).parent / "dags"
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder).resolve()
        rows = home / "rows.parquet"
        make_rows(rows)
        with Services(home=home, dags=dags) as services:
            services.wait_for_dags(DAG_ID)
            time_script(services, rows)
            time_pipeline(services, "warm-up")
            scripts, pipelines = [], []
            for number in range(ROUNDS):
                scripts.append(time_script(services, rows))
                pipelines.append(time_pipeline(services, f"round-{number}"))
            report(scripts, pipelines, breakdown(services, f"round-{ROUNDS - 1}"))
    return 0


def report(scripts: list[float], pipelines: list[float], tasks: list[Any]) -> None:
    script, pipeline = statistics.median(scripts), statistics.median(pipelines)
    print(f"script    {script:6.2f} s   ({', '.join(f'{each:.2f}' for each in scripts)})")
    print(f"pipeline  {pipeline:6.2f} s   ({', '.join(f'{each:.2f}' for each in pipelines)})")
    print(f"ratio     {pipeline / script:6.2f}\n")
    print(f"{'task':24} {'waited':>7} {'ran':>7}   of which in the job")
    for name, waited, ran, timings in tasks:
        inside = "  ".join(f"{phase} {seconds:.2f}" for phase, seconds in timings.items())
        print(f"{name:24} {waited:7.2f} {ran:7.2f}   {inside}")
    print(f"{'all':24} {sum(t[1] for t in tasks):7.2f} {sum(t[2] for t in tasks):7.2f}")


if __name__ == "__main__":
    sys.exit(main())
