"""``python -m demo``: one quarter of real flights through the whole loop, and a table of what happened."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

from demo.flights import lay_out
from demo.report import Window, print_table
from demo.services import Services
from demo.traffic import Traffic

PIPELINE = "flight-delay"
EXAMPLES = Path(__file__).resolve().parent.parent / "example_dags"
FIRST_WINDOW_END = "2013-04-01T04:00:00+00:00"  # midnight in New York
LIVE_REQUESTS_PER_S = 10.0


def copy_pipelines(dags: Path) -> None:
    """A DAGs folder as a team would have it: YAML, stacks and training code, no DAG file."""
    for name in (f"{PIPELINE}.pipeline.yaml", "stacks", "flights"):
        source = EXAMPLES / name
        if source.is_dir():
            shutil.copytree(source, dags / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            dags.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, dags / name)


class Demo:
    """The demo's acts in order; ``say`` prints one line of progress each."""

    def __init__(self, services: Services, flights: Any, *, started: float, kill_scheduler: bool) -> None:
        import pandas as pd

        self.services = services
        self.kill_scheduler = kill_scheduler
        self.started = started
        self.first_end = pd.Timestamp(FIRST_WINDOW_END)
        to_come = flights[flights["sched_dep_time"] >= self.first_end]
        self.traffic = Traffic(flights=to_come, url=f"{services.models_url}/models/{PIPELINE}/invocations")

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.started:4.0f} s] {text}", flush=True)

    def first_model(self) -> None:
        """Train, gate and serve the first model on January to March."""
        run_id = "first-model"
        self.services.wait_for_dags(f"{PIPELINE}.retrain", f"{PIPELINE}.monitor", f"{PIPELINE}.rollback")
        conf = {"window_end": FIRST_WINDOW_END, "reason": "the first model, on January to March"}
        self.services.trigger(f"{PIPELINE}.retrain", run_id, conf)
        state = self.services.wait(f"{PIPELINE}.retrain", run_id)
        outcome = self.services.xcom(f"{PIPELINE}.retrain", run_id, "record") or {}
        self.say(f"first model: {outcome.get('outcome', state)} — {outcome.get('reason', '')}")
        if state != "success":
            raise SystemExit(
                f"the first retraining failed: {self.services.task_states(f'{PIPELINE}.retrain', run_id)}"
            )

    def week(self, number: int) -> Window:
        """Serve one week of flights, monitor its window, and see a retraining through if one starts."""
        import pandas as pd

        end = self.first_end + pd.Timedelta(weeks=number + 1)
        self.traffic.send_until(end)
        self.services.flush(PIPELINE)
        run_id = f"window-{end:%Y-%m-%d}"
        self.services.trigger(f"{PIPELINE}.monitor", run_id, {"window_end": end.isoformat()})
        with self.traffic.going_on(LIVE_REQUESTS_PER_S):
            state = self.services.wait(f"{PIPELINE}.monitor", run_id)
            if state != "success":
                raise SystemExit(
                    f"monitoring failed: {self.services.task_states(f'{PIPELINE}.monitor', run_id)}"
                )
            drift = self.services.xcom(f"{PIPELINE}.monitor", run_id, "detect_drift")
            decision = self.services.xcom(f"{PIPELINE}.monitor", run_id, "decide_retrain")
            self.say(f"window to {end:%d %b}: {drift['summary']}")
            self.say(f"  {decision['reason']}")
            window = Window(start=end - pd.Timedelta(weeks=1), end=end, drift=drift, decision=decision)
            if decision["verdict"] == "retrain":
                window.retrain = self._see_through(decision["run_id"])
        return window

    def _see_through(self, run_id: str) -> dict[str, Any]:
        dag_id = f"{PIPELINE}.retrain"
        if self.kill_scheduler:
            self._kill_scheduler(dag_id, run_id)
        state = self.services.wait(dag_id, run_id)
        outcome = self.services.xcom(dag_id, run_id, "record") or {"outcome": state, "reason": ""}
        self.say(f"  retraining {run_id}: {outcome['outcome']} — {outcome['reason']}")
        return dict(outcome)

    def _kill_scheduler(self, dag_id: str, run_id: str) -> None:
        """Kill the scheduler with all its workers while the run trains, and start it again."""
        while self.services.task_states(dag_id, run_id).get("train") != "running":
            time.sleep(0.2)
        self.services.restart("scheduler", kill=True)
        self.kill_scheduler = False
        self.say("  the scheduler was killed while the model was trained, and started again")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--home", type=Path, default=Path(".demo"), help="where everything is written")
    parser.add_argument("--weeks", type=int, default=13, help="how many weeks of flights to serve")
    parser.add_argument("--every", type=int, default=1, help="keep one flight in N, for a quick run")
    parser.add_argument("--keep", action="store_true", help="leave Airflow, MLflow and the model server up")
    parser.add_argument(
        "--kill-scheduler",
        action="store_true",
        help="kill the scheduler in the middle of the first retraining",
    )
    return parser.parse_args()


def main() -> int:
    args = arguments()
    home = args.home.resolve()
    shutil.rmtree(home, ignore_errors=True)
    copy_pipelines(home / "dags")
    started = time.monotonic()
    flights = lay_out(home / "data" / "flights", every=args.every)
    elapsed = time.monotonic() - started
    print(f"[{elapsed:4.0f} s] {len(flights):,} real flights of 2013 laid out; starting Airflow", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with Services(home=home, dags=home / "dags") as services:
        where = (
            f"Airflow {services.airflow_url}   MLflow {services.mlflow_url}   models {services.models_url}"
        )
        demo = Demo(services, flights, started=started, kill_scheduler=args.kill_scheduler)
        demo.say(where)
        demo.first_model()
        windows = [demo.week(number) for number in range(args.weeks)]
        print_table(windows, flights, services, PIPELINE)
        demo.say(f"done; databases, artifacts, predictions and logs are below {os.path.relpath(home)}")
        if args.keep:
            print(f"Still up until Ctrl-C: {where}")
            print("To retrain by hand, give the form a logical date in 2013, such as 2013-07-01.", flush=True)
            signal.pause()
    print("Everything is stopped. `make demo KEEP=1` leaves it up to look at:", where)
    return 1 if any(window.retrain.get("outcome") == "failed" for window in windows) else 0


if __name__ == "__main__":
    sys.exit(main())
