"""``python -m tests.benchmarks.parse``: YAML and hand-written DAGs in turn, each in a fresh process.

CPU seconds of the DAGs alone; Airflow and the operators are imported before the clock starts.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from mlretrain_factory.loader import load_source
from mlretrain_factory.plan.build import build_plan
from tests.benchmarks.parse.by_hand import source

SIZES, ROUNDS = (100, 500), 3
CASES = Path(__file__).parents[2] / "golden"

MEASURE = """
import json, os, sys, time
from pathlib import Path
from pkgutil import resolve_name
from mlretrain_factory.to_airflow import OPERATORS, load_airflow_dags
from airflow.sdk import DAG
from airflow.serialization.serialized_objects import DagSerialization
for name in OPERATORS.values():
    resolve_name(name)
how, folder = sys.argv[1], Path(sys.argv[2])
started = time.process_time()
namespace = {"__file__": str(folder / "loader.py")}
if how == "yaml":
    load_airflow_dags(namespace)
    dags = [value for name, value in namespace.items() if name != "__file__"]
else:
    dags = []
    for path in sorted(folder.glob("*.py")):
        module = {}
        exec(compile(path.read_text(), path, "exec"), module)
        dags += [value for value in module.values() if isinstance(value, DAG)]
built = time.process_time()
if os.environ.get("SERIALISE") == "1":
    for dag in dags:
        DagSerialization.to_dict(dag)
done = time.process_time()
tasks = sum(len(dag.tasks) for dag in dags)
print(json.dumps({"dags": len(dags), "tasks": tasks, "build": built - started, "serialise": done - built}))
"""


def measure(how: str, folder: Path, **environ: str) -> dict[str, float]:
    """One process: DAGs, tasks, and the CPU seconds to build and to serialise them."""
    command = [sys.executable, "-W", "ignore", "-c", MEASURE, how, str(folder)]
    environ = {"SERIALISE": "1", "AIRFLOW__CORE__UNIT_TEST_MODE": "True", **os.environ, **environ}
    done = subprocess.run(command, env=environ, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def make(root: Path, pipelines: int) -> tuple[Path, Path]:
    """``pipelines`` canary pipelines with monitor and retraining: as YAML, and as Python."""
    yaml, python = root / "yaml", root / "python"
    (yaml / "stacks").mkdir(parents=True)
    python.mkdir()
    (yaml / "stacks" / "local.yaml").write_text((CASES / "canary" / "stacks" / "local.yaml").read_text())
    written = (CASES / "canary" / "pipeline.yaml").read_text() + MONITOR
    for i in range(pipelines):
        path = yaml / f"p{i:03}.pipeline.yaml"
        path.write_text(written.replace("pipeline: canary", f"pipeline: p{i:03}"))
        (python / f"p{i:03}.py").write_text(source(build_plan(load_source(path, root=yaml))))
    return yaml, python


MONITOR = """\
monitor:
  schedule: {cron: "@daily"}
  data: {uri: "${data_root}/now.parquet", time_column: served_at, window: 7d}
retrain: {cooldown: 7d}
"""


def main() -> None:
    """Print a table: CPU seconds, medians, and YAML's ratio to Python."""
    print("pipelines  dags  tasks   what       yaml  by hand  ratio")
    for pipelines in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            yaml, python = make(Path(folder), pipelines)
            rounds = [(measure("yaml", yaml), measure("python", python)) for _ in range(ROUNDS)]
            shape = f"{pipelines:9} {rounds[0][0]['dags']:5} {rounds[0][0]['tasks']:6}"
            for what in ("build", "serialise"):
                ours, theirs = (statistics.median(each[i][what] for each in rounds) for i in (0, 1))
                print(f"{shape}   {what:9} {ours:5.2f}  {theirs:7.2f}  {ours / theirs:5.2f}")
            totals = [statistics.median(r[i]["build"] + r[i]["serialise"] for r in rounds) for i in (0, 1)]
            print(f"{shape}   both      {totals[0]:5.2f}  {totals[1]:7.2f}  {totals[0] / totals[1]:5.2f}")
            worker = {"_AIRFLOW_PARSING_CONTEXT_DAG_ID": "p050.retrain", "SERIALISE": "0"}
            alone = statistics.median(measure("yaml", yaml, **worker)["build"] for _ in range(ROUNDS))
            print(f"{shape}   a worker, before each task: {alone:.3f}")


if __name__ == "__main__":
    main()
