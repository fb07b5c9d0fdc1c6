"""``make compose-check``: prove the images and the compose file, as far as this machine can.

Always: what the compose file promises, and its schema where ``docker compose`` is installed. Where an engine
answers: every image of ours is built, the stack comes up healthy, and the flights pipeline retrains through
S3, also while each service in turn is killed. Published images that cannot be pulled are stood in for
(``docker/standins``), which is said.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import retraining
from environment import filled
from rules import COMPOSE, EXAMPLE, faults, schema_faults
from stack import Stack, StackError, engine, run, say, until
from standins.make import PUBLISHED, is_there, make_missing, stand_ins

PORTS = {"AIRFLOW_PORT": 18080, "MLFLOW_PORT": 15000, "MODELS_PORT": 15002, "S3_PORT": 18333}
TAG = "check"
IMAGES = ("runtime", "airflow", "mlflow", "serve", "flights")
KILLED_IN = {
    "s3": "train",
    "mlflow": "train",
    "model-server": "rollout.stage_1.observe",
    "triggerer": "rollout.stage_1.observe",
    "predictions": "rollout.stage_1.observe",
    "postgres": "train",
    "redis": "train",
    "worker": "train",
    "scheduler": "train",
    "api-server": "train",
    "dag-processor": "train",
}
"""In which task of a retraining each service is killed; those of a rollout while each month's model wins."""

NO_AIRFLOW = "import importlib.util as u, sys; sys.exit(u.find_spec('airflow') is not None)"


def check_config() -> None:
    """The rules, and the schema by compose's own reader."""
    found = faults()
    with tempfile.TemporaryDirectory() as folder:
        schema = schema_faults(Path(folder))
    if found or schema:
        raise StackError("\n".join([*found, *(schema or [])]))
    say(f"config: {COMPOSE.name} and {EXAMPLE.name} keep what they promise")
    accepted = "accepted with made secrets, refused with empty ones"
    say(f"schema: {accepted}" if schema is not None else "schema: SKIPPED, no docker compose here")


def get_images(rootfs: Path | None) -> None:
    """Pull what is published, or say what stands in for it."""
    for tag in PUBLISHED.values():
        if not is_there(tag):
            try:
                run("docker", "pull", "--quiet", tag)
            except StackError:
                say(f"cannot pull {tag}")
    make_missing(rootfs)
    for tag in stand_ins():
        say(f"STAND-IN, not the published image: {tag}")


def build() -> None:
    """Build our images: none runs as root, the job's has no Airflow in it and runs the user's code."""
    for target in IMAGES:
        started = time.monotonic()
        tag = f"mlretrain/{target}:{TAG}"
        run("docker", "build", "--file", "docker/Dockerfile", "--target", target, "--tag", tag, ".")
        told = json.loads(run("docker", "image", "inspect", tag))[0]
        if told["Config"]["User"].split(":")[0] in ("", "0", "root"):
            raise StackError(f"{tag} runs as root")
        say(f"built {target}: {time.monotonic() - started:.0f} s, {told['Size'] / 1e6:.0f} MB")
    runtime, flights = f"mlretrain/runtime:{TAG}", f"mlretrain/check-code:{TAG}"
    run("docker", "run", "--rm", "--entrypoint", "python", runtime, "-c", NO_AIRFLOW)
    mlretrain = str(Path(sys.executable).with_name("mlretrain"))
    run(mlretrain, "image", "--code", "example_dags", "--base", runtime, "--tag", flights)
    run("docker", "run", "--rm", "--entrypoint", "python", flights, "-c", "import flights.train")
    say("runtime: no Airflow in it; `mlretrain image` puts the example's code on it, which imports")


def make_stack(folder: Path) -> Stack:
    """The check's own stack: own project, ports, secrets and copy of the example."""
    retraining.furnish(folder / "pipelines")
    folder.chmod(0o755)
    env = filled(EXAMPLE.read_text()).replace("./example_dags", str(folder / "pipelines"))
    ports = [f"{name}={port}" for name, port in PORTS.items()]
    kept = [line for line in env.splitlines() if line.split("=")[0] not in PORTS]
    file = folder / "check.env"
    file.write_text("\n".join([*kept, *ports, f"MLRETRAIN_TAG={TAG}", ""]))
    return Stack(env_file=file)


def bring_up(stack: Stack) -> None:
    """From nothing to healthy."""
    started = time.monotonic()
    stack.compose("up", "--detach", "--wait", "--wait-timeout", "600", "--no-build")
    up = [name for name, told in stack.containers().items() if told["State"]["Running"]]
    took = time.monotonic() - started
    say(f"up: {len(up)} services healthy after {took:.0f} s: {', '.join(sorted(up))}")


def retrain(stack: Stack, run_id: str, month: int, killed: str | None = None) -> None:
    """One retraining, with a service killed in it; raises if anything is lost or doubled."""
    started = time.monotonic()
    window_end = datetime(2013 + month // 12, month % 12 + 1, 1, 4, tzinfo=UTC).isoformat()
    until(lambda: retraining.start(stack, run_id, window_end), f"{run_id} starts", 120)
    told = ""
    if killed:
        retraining.wait_for_task(stack, run_id, KILLED_IN[killed])
        stack.kill(killed)
        at = time.monotonic()
        until(lambda: not stack.is_healthy(killed), f"{killed} dies", 30)
        until(lambda: stack.is_healthy(killed), f"{killed} comes back")
        told = f"killed {killed} in {KILLED_IN[killed]}, healthy again {time.monotonic() - at:.0f} s later; "
    state = retraining.end(stack, run_id)
    left = until(lambda: retraining.left_by(stack, run_id), f"{run_id} is read")
    tries = f", tries {left.retried}" if left.retried else ""
    events = " ".join(f"{kind}×{number}" for kind, number in sorted(left.events.items()))
    say(
        f"{run_id}: {told}run {state} ({left.outcome}) in {time.monotonic() - started:.0f} s{tries}; "
        f"{left.versions} version, {left.mlflow_runs} MLflow run, ledger {events}"
    )
    if state != "success" or left.faults:
        raise StackError(f"{run_id}: {state}; {', '.join(left.faults)}")


def check_stack(stack: Stack, services: list[str], every: int) -> None:
    """Up, data, one quiet retraining, one for each kill."""
    bring_up(stack)
    won = retraining.conditional_writes(stack)
    if won != 1:
        raise StackError(f"S3 told {won} of 8 writers at once that they made the object")
    say("s3: of 8 conditional writers of one object, one made it")
    say(f"data: {retraining.upload(stack, every)} files of flights in S3 (one flight in {every})")
    until(lambda: stack.airflow(f"dags/{retraining.DAG}"), "Airflow lists the pipeline", 120)
    retrain(stack, "quiet", month=3)
    say(f"data docs: {retraining.data_docs(stack, 'quiet')} bytes, shown by Airflow from S3")
    with retraining.passengers(stack) as requests:
        if not services:
            retrain(stack, "served", month=3)
        for number, service in enumerate(services):
            retrain(stack, f"without-{service}", month=3 + number % 9, killed=service)
    say(f"model server: {requests['answered']} requests answered, {requests['refused']} refused")
    files, rows = retraining.predictions(stack)
    if rows > requests["answered"]:
        raise StackError(f"{rows} predictions in S3, but {requests['answered']} requests were answered")
    lost = requests["answered"] - rows
    say(
        f"predictions: {rows} rows in {files} files in S3, {lost} were in memory when their server was killed"
    )
    say(retraining.monitor(stack))


def main() -> int:
    """0 if nothing that could be checked was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kill", nargs="*", choices=KILLED_IN, default=list(KILLED_IN), help="default: each")
    parser.add_argument("--every", type=int, default=4, help="keep one flight in so many")
    parser.add_argument("--rootfs", type=Path, help="what debootstrap made, for stand-ins")
    parser.add_argument("--keep", action="store_true", help="leave the stack up")
    args = parser.parse_args()
    started = time.monotonic()
    check_config()
    if (version := engine()) is None:
        say("SKIPPED: no Docker engine answers, so no image was built and no stack brought up")
        return 0
    say(f"engine: Docker {version}, {run('docker', 'compose', 'version', '--short').strip()} compose")
    get_images(args.rootfs)
    build()
    folder = Path(tempfile.mkdtemp(prefix="compose-check-"))
    stack = make_stack(folder)
    try:
        check_stack(stack, args.kill, args.every)
    except RuntimeError:
        (folder / "logs.txt").write_text(stack.compose("logs", "--no-color"))
        say(f"every service's log is in {folder}/logs.txt")
        raise
    finally:
        if not args.keep:
            stack.compose("down", "--volumes", "--timeout", "5")
    say(f"compose-check: all of it holds, {(time.monotonic() - started) / 60:.0f} minutes")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RuntimeError as error:
        sys.exit(f"compose-check: {error}")
