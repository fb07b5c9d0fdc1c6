"""What a user's training function is given, how it is found, and how it is called."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mlretrain.errors import ConfigError, MlretrainError, UserCodeError
from mlretrain.runtime.context import JobContext
from mlretrain.runtime.runner import user_code_error

if TYPE_CHECKING:
    import pandas as pd

    from mlretrain.data.dataset import Dataset

TrainFunction = Callable[["TrainContext"], Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainContext(JobContext):
    """The one argument of ``train(ctx)``.

    ``random`` and ``numpy.random`` are seeded with ``seed`` before the call. While it runs, MLflow's fluent
    functions (``mlflow.log_metric``, ``mlflow.start_run``, autologging) log to the run ``mlflow_run_id``.

    A job may be stopped: its task is killed or out of time, its machine is taken away. A function that keeps
    checkpoints loses only what came after the last one, since the next try finds them again::

        kept = ctx.load_checkpoint("state.pkl")
        model, first = pickle.loads(kept) if kept else (Model(), 0)
        for epoch in range(first, epochs):
            model.fit_epoch(data)
            ctx.save_checkpoint("state.pkl", pickle.dumps((model, epoch + 1)))
            ctx.progress(epoch + 1, epochs)

    A job is stopped by SIGTERM, which is raised in the main thread as an exception that ``except Exception``
    does not catch. What stands in ``finally`` or ``except BaseException`` may keep a last checkpoint within
    the backend's grace period (``grace`` of the stack), after which the job is killed; the function must not
    go on. The signal is raised between two lines of Python: a call into compiled code, such as one long
    ``fit``, ends first.

    With ``nodes: 2`` or more in ``train.resources`` the function is called on as many machines at once, told
    apart by ``rank`` and ``world_size``. The environment has what ``torch.distributed`` and others look for
    (``RANK``, ``WORLD_SIZE``, ``MASTER_ADDR``, ``MASTER_PORT``). Every rank is given all training rows; the
    model that rank 0 returns is kept.

    :param params: ``train.params`` of the pipeline.
    :param features: the columns that the model may see, in order.
    :param window_end: the instant that the run is about, in data time.
    :param dataset: the resolved files, for code that reads them itself; beware, they include the holdout.
    """

    params: Mapping[str, Any]
    target: str
    features: list[str]
    seed: int
    window_end: datetime
    mlflow_run_id: str
    dataset: Dataset
    frame: pd.DataFrame

    def train_frame(self) -> pd.DataFrame:
        """A copy of the training rows, never of the holdout's: ``features`` and ``target``."""
        return self.frame[[*self.features, self.target]].copy()


def load_entrypoint(entrypoint: str, where: str = "train.entrypoint") -> tuple[TrainFunction, ModuleType]:
    """The function that ``"package.module:function"`` names, and its module.

    :param where: the setting's name in errors.
    :raises ConfigError: there is no such module or function; the message has the nearest name.
    :raises UserCodeError: the module fails to import.
    """
    module_name, _, name = entrypoint.partition(":")
    if not module_name or not name:
        raise ConfigError(
            f"{entrypoint!r} names no function",
            where=where,
            allowed="package.module:function",
        )
    module = _import(module_name, where)
    function = getattr(module, name, None)
    if not callable(function):
        functions = [each for each, value in vars(module).items() if callable(value) and each[0] != "_"]
        near = difflib.get_close_matches(name, functions, 1)
        raise ConfigError(
            f"{module_name} has no function {name!r}",
            where=where,
            found=", ".join(functions) or "no functions",
            remedy=f"Did you mean {module_name}:{near[0]}?" if near else None,
        )
    return function, module


def _import(name: str, where: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = str(error.name)
        if name == missing or name.startswith(f"{missing}."):
            raise ConfigError(
                f"there is no module {missing!r} to import",
                where=where,
                found=f"nothing of that name in {', '.join(_code_paths())}",
                remedy="Set the code path (MLRETRAIN_CODE_PATHS) to the folder that holds it, or install it",
            ) from error
        raise user_code_error(error) from error
    except Exception as error:
        raise user_code_error(error) from error


def _code_paths() -> list[str]:
    """The folders on ``sys.path`` that are neither Python's own nor its packages'."""
    return [each for each in sys.path if each and not each.startswith((sys.prefix, sys.base_prefix))] or list(
        sys.path
    )


def call(function: TrainFunction, context: TrainContext, entrypoint: str) -> Any:
    """What the user's function returns, after seeding ``random`` and ``numpy.random``.

    :raises UserCodeError: it raised, or returned ``None``.
    """
    import random

    import numpy as np

    random.seed(context.seed)
    np.random.seed(context.seed % 2**32)
    try:
        model = function(context)
    except MlretrainError:
        raise
    except Exception as error:
        raise user_code_error(error) from error
    if model is None:
        raise UserCodeError(
            f"{entrypoint} returned None",
            allowed="the trained model, or the ModelInfo of a model that it logged",
            remedy="Add `return model` to the function",
        )
    return model
