"""A packaged model's rehearsal: it is loaded and asked about its own input example.

What comes of it is plain data, so that two environments can be compared: the one that trained the model and
the one that is to serve it. ``python -c`` with :func:`main` does it in a process of its own.
"""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlretrain.runtime.runner import is_secret
from mlretrain.wire import from_wire, pretty

_RUN = (
    f"import sys; sys.path.append(sys.argv[1]); from {__name__} import main; main(sys.argv[2], sys.argv[3])"
)
_PACKAGE = Path(__file__).parents[1]
# What the job has and a packaged model must not need. Its backend finds the process by other variables.
_OF_THE_JOB = ("PYTHON", "MLFLOW_", "MLRETRAIN_CODE_PATHS")
_LONGEST_SAYING = 300

logger = logging.getLogger("mlretrain")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """How far the model came.

    :param loaded: whether it could be loaded.
    :param rows: of its input example; ``None``: it has none.
    :param answered: rows of its answer; ``None``: it gave none.
    :param answer: as JSON, with ``None`` for each value that is null or not finite.
    :param misfit: in what the answer is not what the model's signature says.
    :param failure: why it came no further.
    :param seconds: what ``load`` and ``answer`` took.
    """

    loaded: bool = False
    rows: int | None = None
    answered: int | None = None
    answer: Any = None
    misfit: str | None = None
    failure: str | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)


def rehearse(folder: str | Path) -> Rehearsal:
    """What comes of the model in ``folder`` in this process."""
    try:
        import mlflow.pyfunc

        start = time.perf_counter()
        model: Any = mlflow.pyfunc.load_model(str(folder), suppress_warnings=True)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a model may raise anything
        return _failed(error)
    return answer(model, folder, load_s=time.perf_counter() - start)


def answer(model: Any, folder: str | Path, *, load_s: float = 0.0) -> Rehearsal:
    """What ``model``, loaded from ``folder``, says of its input example."""
    from mlretrain.serving.columns import row_count

    rows = None
    start = time.perf_counter()
    try:
        example = model.metadata.load_input_example(str(folder))
        if example is None:
            return Rehearsal(loaded=True, seconds=_seconds(load=load_s))
        rows = row_count(example)
        given = model.predict(example, params=model.metadata.load_input_example_params(str(folder)))
        return Rehearsal(
            loaded=True,
            rows=rows,
            answered=row_count(given),
            answer=plain(given),
            misfit=_misfit(given, model.metadata.get_output_schema()),
            seconds=_seconds(load=load_s, answer=time.perf_counter() - start),
        )
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a model may raise anything
        return _failed(error, loaded=True, rows=rows, seconds=_seconds(load=load_s))


def rehearse_apart(
    folder: Path, *, env: Mapping[str, str], longest_s: float, python: str | Path = sys.executable
) -> Rehearsal:
    """:func:`rehearse` in a process of its own, without the job's code, credentials and settings.

    A model that kills its process fails as one that raises does.

    :param longest_s: seconds after which it is killed.
    :param python: the interpreter of the environment; of ours it sees this package and no other.
    """
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / _PACKAGE.name).symlink_to(_PACKAGE)
        said = Path(scratch) / "rehearsal.json"
        command = [str(python), "-P", "-c", _RUN, scratch, str(folder.absolute()), str(said)]
        try:
            done = subprocess.run(  # noqa: S603
                command,
                cwd=scratch,
                env=_bare(env),
                stdin=subprocess.DEVNULL,
                timeout=longest_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Rehearsal(failure=f"no answer within {longest_s:g} s")
        if not said.exists():
            return Rehearsal(failure=f"its process {_end(done.returncode)} on the way")
        return from_wire(Rehearsal, json.loads(said.read_bytes()))


def main(folder: str, path: str) -> None:
    """Rehearse the model in ``folder`` and write what came of it to ``path``."""
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    Path(path).write_bytes(pretty(rehearse(folder)))


def plain(value: Any) -> Any:
    """A model's answer as JSON, with ``None`` for whatever is null or not finite."""
    if hasattr(value, "toarray"):  # sparse
        value = value.toarray()
    if hasattr(value, "columns"):
        value = value.to_dict("list")
    elif hasattr(value, "tolist"):  # numpy and pandas
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [plain(each) for each in value]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return None if _is_null(value) else str(value)


def _is_null(value: Any) -> bool:
    import pandas as pd

    return bool(pd.api.types.is_scalar(value) and pd.isna(value))


def _misfit(given: Any, schema: Any) -> str | None:
    from mlflow.models.utils import validate_schema

    if schema is None:
        return None
    try:
        validate_schema(given, schema)
    except Exception as error:  # noqa: BLE001 - of several kinds, all about the answer
        return _said(error)
    return None


def _failed(error: BaseException, **reached: Any) -> Rehearsal:
    logger.warning("The model's rehearsal ended here:", exc_info=error)
    return Rehearsal(failure=f"{type(error).__name__}: {_said(error)}", **reached)


def _said(error: BaseException) -> str:
    return " ".join(str(error).split())[:_LONGEST_SAYING]


def _seconds(**phases: float) -> dict[str, float]:
    return {name: round(value, 3) for name, value in phases.items()}


def _end(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def _bare(env: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value for name, value in env.items() if not name.startswith(_OF_THE_JOB) and not is_secret(name)
    }
