"""What the model server adds to MLflow's own scoring app: ``python -m tests.benchmarks.serving [SECONDS]``.

Both serve the same version of the same model from one MLflow; the same load goes to one and the other in
turn, with one connection (added latency) and with eight (requests per second). The server also splits the
traffic, counts it and logs every row.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

from mlretrain.ports import Traffic
from mlretrain.serving.target import LocalTarget
from tests.fixtures_mlflow import mlflow_server
from tests.fixtures_serving import model_server, wait_for
from tests.free_port import free_port

ROOT = Path(__file__).parents[2]
ROUNDS = 3

REGISTER = """
import mlflow, numpy, pandas
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression
rows = pandas.DataFrame(numpy.random.default_rng(7).normal(size=(500, 2)), columns=["a", "b"])
model = LogisticRegression().fit(rows, rows["a"] + rows["b"] > 0)
mlflow.sklearn.log_model(model, name="model", signature=infer_signature(rows, model.predict_proba(rows)),
    pyfunc_predict_fn="predict_proba", pip_requirements=["scikit-learn"], registered_model_name="bench")
"""

BARE = """
import sys, mlflow, uvicorn
from mlflow.pyfunc import scoring_server
app = scoring_server.init(mlflow.pyfunc.load_model("models:/bench/1"))
uvicorn.run(app, port=int(sys.argv[1]), access_log=False, log_level="warning")
"""


@contextmanager
def bare_server(tracking_uri: str) -> Iterator[str]:
    """MLflow's scoring app as it is."""
    port = free_port()
    env = {**os.environ, "MLFLOW_TRACKING_URI": tracking_uri}
    process = subprocess.Popen([sys.executable, "-c", BARE, str(port)], env=env, stderr=subprocess.DEVNULL)
    try:
        wait_for(f"http://127.0.0.1:{port}/ping", process)
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        process.terminate()
        process.wait(30)


def measure(url: str, connections: int, seconds: float) -> tuple[float, list[float]]:
    """Requests per second and their sorted latencies in ms; every one must have been answered with 200."""
    parts = urlsplit(url)
    load = [sys.executable, str(ROOT / "tests/integration/load.py"), str(parts.hostname), str(parts.port)]
    load += [parts.path, str(connections), str(seconds), '{"a": 1.0, "b": 2.0}']
    requests = json.loads(subprocess.run(load, check=True, capture_output=True).stdout)["requests"]
    assert {status for _, status, *_ in requests} == {200}
    return len(requests) / seconds, sorted(latency for *_, latency in requests)


def main(seconds: float = 5.0) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as scratch, mlflow_server() as tracking_uri:
        env = {**os.environ, "MLFLOW_TRACKING_URI": tracking_uri}
        subprocess.run([sys.executable, "-c", REGISTER], check=True, env=env, capture_output=True)
        with bare_server(tracking_uri) as bare, model_server(Path(scratch), tracking_uri) as server:
            LocalTarget(server.url).apply("bench", Traffic(weights={"1": 100}))
            urls = {"MLflow's app": bare, "mlretrain serve": f"{server.url}/models/bench/invocations"}
            print(f"{'':16} connections  requests/s   p50 ms   p95 ms   p99 ms   (medians of {ROUNDS})")
            for connections in (1, 8):
                rounds = [
                    {name: measure(url, connections, seconds) for name, url in urls.items()}
                    for _ in range(ROUNDS)
                ]
                for name in urls:
                    rate = median(each[name][0] for each in rounds)
                    quantiles = [
                        median(each[name][1][int(share * len(each[name][1]))] for each in rounds)
                        for share in (0.5, 0.95, 0.99)
                    ]
                    times = "".join(f"{value:9.2f}" for value in quantiles)
                    print(f"{name:16} {connections:11} {rate:11.0f}{times}")


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
