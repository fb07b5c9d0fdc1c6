"""Training with real MLflow and scikit-learn: what the user's code is given and what is kept."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest

from mlretrain.data.split import Holdout
from mlretrain.drift.sample import TIME, from_parquet
from mlretrain.errors import ConfigError, ContractError, MlretrainError, UserCodeError
from mlretrain.runtime.command import run_command
from mlretrain.runtime.recipe import choose_features
from mlretrain.runtime.store import read_uri
from mlretrain.steps import train
from mlretrain.steps.train import Config, SampleConfig

from .conftest import MakeContext, MakeDataset

CODE = "flight_models"
LAST_FIFTH = Holdout(by="time", fraction=0.2)


@pytest.fixture
def run(
    make_context: MakeContext,
    make_dataset: MakeDataset,
    flights: pd.DataFrame,
    tracking_env: dict[str, str],
    mlflow_run: str,
) -> Any:
    def run_train(**config: Any) -> dict[str, Any]:
        given: dict[str, Any] = {
            "dataset_uri": make_dataset(config.pop("frame", flights), "time"),
            "target": "late",
            "features_exclude": ("flight_id",),
            "holdout": LAST_FIFTH,
        }
        ctx = make_context("train", env=tracking_env, mlflow_run_id=mlflow_run)
        return train.run(Config(**(given | config)), ctx)

    return run_train


def _seen(what: str) -> Any:
    """What the user's function has noted in its module, as the step has imported it."""
    return sys.modules[CODE].SEEN[what]


def test_the_function_sees_training_rows_only(run: Any, flights: pd.DataFrame) -> None:
    result = run(entrypoint=f"{CODE}:train")
    seen, context = _seen("frame"), _seen("context")

    assert list(seen.columns) == ["carrier", "distance", "number", "late"]
    assert seen["distance"].tolist() == flights["distance"].head(320).tolist()
    assert (result["rows"], result["holdout_rows"], result["unlabelled_rows"]) == (320, 80, 0)
    assert (context.target, context.seed, context.window_end.year) == ("late", 7, 2013)
    assert context.dataset.rows == 400


def test_rows_are_kept_where_they_are_wanted_without_the_columns_that_are_not(
    run: Any, flights: pd.DataFrame
) -> None:
    assert "sample_uri" not in run(entrypoint=f"{CODE}:train")
    wanted = SampleConfig(rows=250, exclude=("carrier",))
    result = run(entrypoint=f"{CODE}:train", chunk_s=48 * 3600.0, sample=wanted, sensitive=("number",))
    kept = from_parquet(read_uri(result["sample_uri"]), result["sample_uri"])
    assert kept.table.column_names == [TIME, "distance"]
    assert kept.table.num_rows == 250
    times = kept.table[TIME].to_pandas().dt.tz_localize(None)
    assert times.between(flights["time"][0], flights["time"][319]).all()
    assert len(kept.noise) == 0, "chunks of 48 rows are too few to learn from"


def test_what_is_kept_knows_how_chunks_of_time_differ(run: Any) -> None:
    result = run(entrypoint=f"{CODE}:train", chunk_s=5 * 86400.0, sample=SampleConfig())
    kept = from_parquet(read_uri(result["sample_uri"]), result["sample_uri"])
    assert len(kept.noise) == 3
    assert all(0 <= each < 0.3 for each in kept.noise)


def test_how_the_models_answers_differ_from_time_to_time_is_learnt(run: Any) -> None:
    assert run(entrypoint=f"{CODE}:train")["prediction_noise"] == {}
    noise = run(entrypoint=f"{CODE}:train", chunk_s=48 * 3600.0)["prediction_noise"]
    assert noise.keys() >= {"missing_rate", "psi"}
    assert all(value >= 0 for value in noise.values())


def test_the_model_is_kept_with_signature_and_requirements(run: Any, tracking_env: dict[str, str]) -> None:
    result = run(entrypoint=f"{CODE}:train", params={"C": 0.5}, prediction_method="predict_proba")

    mlflow.set_tracking_uri(tracking_env["MLFLOW_TRACKING_URI"])
    info = mlflow.models.get_model_info(result["model_uri"])
    assert info.run_id == result["mlflow_run_id"]
    assert info.signature is not None
    types = {each.name: each.type.name for each in info.signature.inputs}
    assert types == {"carrier": "string", "distance": "double", "number": "double"}
    requirements = mlflow.pyfunc.get_model_dependencies(result["model_uri"])
    text = Path(requirements).read_text()
    assert {line.split("==")[0] for line in text.split()} >= {
        "mlflow",
        "scikit-learn",
        "cloudpickle",
        "pandas",
    }

    data = mlflow.get_run(result["mlflow_run_id"]).data
    assert data.params == {"C": "0.5"}
    assert data.metrics == result["metrics"] == {"depth": 3.0}


def test_a_model_is_loaded_where_the_users_code_is_not(
    run: Any, tracking_env: dict[str, str], tmp_path: Path
) -> None:
    result = run(entrypoint=f"{CODE}:train")
    script = (
        f"import mlflow, pandas; mlflow.set_tracking_uri({tracking_env['MLFLOW_TRACKING_URI']!r});"
        f"m = mlflow.pyfunc.load_model({result['model_uri']!r});"
        "print(m.predict(pandas.DataFrame({'carrier': ['AA'], 'distance': [9.0], 'number': [1.0]})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "[0]", done.stderr


def test_the_holdout_keeps_every_column_and_its_hash(run: Any, flights: pd.DataFrame) -> None:
    result, again = run(entrypoint=f"{CODE}:train"), run(entrypoint=f"{CODE}:train")
    data = read_uri(result["holdout_uri"])
    path = Path(result["holdout_uri"].removeprefix("file://"))

    assert hashlib.sha256(data).hexdigest() == result["holdout_sha256"] == again["holdout_sha256"]
    pd.testing.assert_frame_equal(
        pd.read_parquet(path), flights.tail(80).reset_index(drop=True), check_dtype=False
    )


def test_the_profile_is_that_of_the_training_features(run: Any) -> None:
    profile = json.loads(read_uri(run(entrypoint=f"{CODE}:train")["profile_uri"]))
    assert profile["rows"] == 320
    assert {each["name"] for each in profile["columns"]} == {"carrier", "distance", "number"}


def test_a_retry_finds_its_parameters_logged(run: Any, tracking_env: dict[str, str], mlflow_run: str) -> None:
    client = mlflow.MlflowClient(tracking_env["MLFLOW_TRACKING_URI"])
    client.log_param(mlflow_run, "fit_intercept", "True")
    run(entrypoint=f"{CODE}:train", params={"fit_intercept": True, "C": 0.5})
    assert client.get_run(mlflow_run).data.params == {"fit_intercept": "True", "C": "0.5"}


def test_randomness_is_seeded(run: Any) -> None:
    run(entrypoint=f"{CODE}:train")
    first = _seen("drawn")
    run(entrypoint=f"{CODE}:train")
    assert _seen("drawn") == first


def test_a_function_may_open_the_run_and_log_the_model_itself(run: Any) -> None:
    result = run(entrypoint=f"{CODE}:train_own_run")
    assert result["flavor"] is None
    assert mlflow.models.get_model_info(result["model_uri"]).run_id == result["mlflow_run_id"]


def test_any_python_model_will_do(run: Any) -> None:
    result = run(entrypoint=f"{CODE}:constant")
    assert result["flavor"] == "mlflow.pyfunc"


def test_rows_without_a_target_are_left_out(run: Any, flights: pd.DataFrame) -> None:
    late = flights["late"].astype("Int64").where(flights.index >= 10)
    result = run(entrypoint=f"{CODE}:train", frame=flights.assign(late=late))
    assert (result["unlabelled_rows"], result["rows"] + result["holdout_rows"]) == (10, 390)


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({"entrypoint": f"{CODE}:trian"}, ConfigError, rf"Did you mean {CODE}:train\?"),
        ({"entrypoint": "flihgts:train"}, ConfigError, "there is no module 'flihgts'"),
        ({"entrypoint": "flights"}, ConfigError, "allowed: package.module:function"),
        ({"entrypoint": f"{CODE}:nothing"}, UserCodeError, "nothing returned None.*return model"),
        ({"entrypoint": f"{CODE}:a_dict"}, UserCodeError, "no MLflow flavour fits.*sklearn.*PythonModel"),
        (
            {"entrypoint": f"{CODE}:fails"},
            UserCodeError,
            r"models.py:\d+: KeyError: 'dep_dleay'",
        ),
        (
            {"entrypoint": f"{CODE}:regress", "prediction_method": "predict_proba"},
            ConfigError,
            "prediction_method is predict_proba",
        ),
        ({"entrypoint": f"{CODE}:train", "target": "lat"}, ConfigError, "no column 'lat'.*allowed: time,"),
        ({}, ConfigError, "either an entrypoint or a command"),
    ],
)
def test_what_is_wrong_is_said(
    run: Any, config: dict[str, Any], error: type[MlretrainError], message: str
) -> None:
    with pytest.raises(error, match=message):
        run(**config)


def test_a_request_names_its_run(
    make_context: MakeContext, make_dataset: MakeDataset, flights: pd.DataFrame
) -> None:
    config = Config(
        dataset_uri=make_dataset(flights), target="late", entrypoint=f"{CODE}:train", holdout=LAST_FIFTH
    )
    with pytest.raises(ContractError, match="names no MLflow run"):
        train.run(config, make_context("train"))


SCRIPT = """
import json, os
import mlflow, pandas as pd
from sklearn.linear_model import LogisticRegression
rows = pd.read_parquet(os.environ["MLRETRAIN_TRAIN_DATA"])
params = json.loads(os.environ["MLRETRAIN_PARAMS"])
with mlflow.start_run() as run:
    model = LogisticRegression(**params).fit(rows[["distance"]], rows[os.environ["MLRETRAIN_TARGET"]])
    mlflow.sklearn.log_model(model, name="model", pip_requirements=["scikit-learn"])
    mlflow.log_metric("rows", len(rows))
"""


def test_an_existing_script_is_run_unchanged(run: Any, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    result = run(command=(sys.executable, str(script)), params={"C": 2.0})
    assert mlflow.models.get_model_info(result["model_uri"]).run_id == result["mlflow_run_id"]
    assert result["metrics"] == {"rows": 320.0}


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("sh", "-c", "exit 3"), "the command failed.*exit status 3 of: sh -c 'exit 3'"),
        (("sh", "-c", "kill -9 $$"), "signal SIGKILL"),
        (("sh", "-c", "true"), "the command logged no model"),
    ],
)
def test_a_script_that_fails_is_the_users(run: Any, command: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserCodeError, match=message):
        run(command=command)


def test_a_command_that_is_not_there(run: Any) -> None:
    with pytest.raises(ConfigError, match="cannot be started: No such file"):
        run(command=("no-such-program",))


def test_a_command_leaves_no_process_behind(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    run_command(("sh", "-c", f"sleep 60 & echo $! > {shlex.quote(str(note))}"), os.environ)
    pid = int(note.read_text())
    with contextlib.suppress(ProcessLookupError):
        assert select.select([os.pidfd_open(pid)], [], [], 10)[0]


STOPPED = """
import sys
from mlretrain.runtime.command import run_command
script = "trap 'sleep 0.3; echo saved; exit 0' TERM; sleep 0.5; echo up; sleep 60 & wait"
try:
    run_command(("sh", "-c", script), {})
except KeyboardInterrupt:
    print("stopped", flush=True)
"""


def test_a_command_that_is_stopped_may_save_its_work() -> None:
    with subprocess.Popen([sys.executable, "-c", STOPPED], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == "saved\nstopped\n"


COLUMNS = ["time", "a", "b", "y"]


@pytest.mark.parametrize(
    ("include", "exclude", "chosen"),
    [
        (None, (), ["a", "b"]),
        (None, ("b",), ["a"]),
        (("b", "a"), (), ["a", "b"]),
        (("time", "a"), (), ["time", "a"]),
    ],
)
def test_features_are_every_column_or_the_named_ones(
    include: tuple[str, ...] | None, exclude: tuple[str, ...], chosen: list[str]
) -> None:
    config = Config(
        dataset_uri="", target="y", holdout=LAST_FIFTH, features_include=include, features_exclude=exclude
    )
    assert choose_features(config, COLUMNS, "time") == chosen


@pytest.mark.parametrize(
    ("include", "exclude", "message"),
    [
        (("y",), (), "the target 'y' is included"),
        (("c",), (), "no column 'c'"),
        (None, ("a", "b"), "no feature is left"),
    ],
)
def test_features_that_cannot_be(
    include: tuple[str, ...] | None, exclude: tuple[str, ...], message: str
) -> None:
    config = Config(
        dataset_uri="", target="y", holdout=LAST_FIFTH, features_include=include, features_exclude=exclude
    )
    with pytest.raises(ConfigError, match=message):
        choose_features(config, COLUMNS, "time")
