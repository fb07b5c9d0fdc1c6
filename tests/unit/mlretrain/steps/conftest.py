"""A step's context on a folder, and datasets of the frames that a test makes up."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlretrain.data.dataset import write_dataset
from mlretrain.data.resolve import resolve
from mlretrain.runtime.context import StepContext
from mlretrain.runtime.contract import StepRequest
from mlretrain.runtime.store import open_store

with warnings.catch_warnings():
    # MLflow's own classes: "Any type hint is inferred as AnyType".
    warnings.filterwarnings("ignore", module=r"mlflow\.")
    import mlflow.pyfunc

MakeContext = Callable[..., StepContext]
MakeDataset = Callable[..., str]


@pytest.fixture
def make_context(tmp_path: Path) -> MakeContext:
    """``make_context(step, env=…, **frozen)``, each with an output folder of its own."""
    numbers = itertools.count()

    def make(step: str, *, env: dict[str, str] | None = None, **frozen: Any) -> StepContext:
        output_uri = (tmp_path / f"out-{next(numbers)}").as_uri()
        request = StepRequest(
            step=step,
            pipeline="flight-delay",
            run_id="r1",
            window_end=datetime(2013, 4, 1, tzinfo=UTC),
            key="k",
            config={},
            frozen=frozen,
            output_uri=output_uri,
            seed=7,
        )
        return StepContext(request=request, store=open_store(output_uri), env=env or {})

    return make


@pytest.fixture
def make_dataset(tmp_path: Path) -> MakeDataset:
    """The URI of a resolved dataset of one Parquet file."""
    numbers = itertools.count()

    def make(frame: pd.DataFrame, time_column: str | None = None) -> str:
        path = tmp_path / f"data-{next(numbers)}.parquet"
        frame.to_parquet(path, index=False)
        uri = path.with_suffix(".json").as_uri()
        write_dataset(resolve(path.as_uri(), time_column=time_column), uri)
        return uri

    return make


@pytest.fixture
def flights() -> pd.DataFrame:
    """Flights that are late when far and badly carried, a row for each hour; ``number`` is null at times."""
    random, n = np.random.default_rng(1), 400
    distance = random.uniform(100, 3000, n)
    carrier = random.choice(["AA", "B6", "UA"], n)
    late = distance / 3000 + (carrier == "B6") * 0.5 + random.normal(0, 0.3, n) > 0.7
    number = pd.Series([*random.integers(1, 99, n - 1).tolist(), None], dtype="Int64")
    return pd.DataFrame(
        {
            "time": pd.date_range("2013-01-01", periods=n, freq="h"),
            "flight_id": range(n),
            "carrier": carrier,
            "distance": distance,
            "number": number,
            "late": late.astype(int),
        }
    )


@pytest.fixture(scope="session")
def _database(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    with warnings.catch_warnings():
        # MLflow 3.17 on SQLAlchemy 2.1: "the noload loader strategy is deprecated".
        warnings.filterwarnings("ignore", module=r"mlflow\.")
        mlflow.MlflowClient(uri).create_experiment("flight-delay", (folder / "artifacts").as_uri())
    return uri


@pytest.fixture
def tracking_env(_database: str) -> dict[str, str]:
    """The environment of a job whose MLflow is a SQLite database."""
    return {"MLFLOW_TRACKING_URI": _database}


@pytest.fixture(autouse=True)
def _code_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent / "user")


@pytest.fixture
def mlflow_run(_database: str) -> str:
    """The id of a run that an operator has opened."""
    client = mlflow.MlflowClient(_database)
    experiment = client.get_experiment_by_name("flight-delay")
    assert experiment is not None
    return str(client.create_run(experiment.experiment_id).info.run_id)
