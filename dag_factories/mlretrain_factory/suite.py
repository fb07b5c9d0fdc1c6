"""Suite files of Great Expectations, read and checked with the pipeline that names them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pydantic_core import PydanticCustomError

from mlretrain_factory.errors import SpecError, SpecErrors
from mlretrain_factory.source_map import Node
from mlretrain_factory.spec.validation import check_expectation

_RUN_ARGUMENTS = {"batch_id", "result_format", "catch_exceptions"}
_EXAMPLE = '`{"expectations": [{"type": …, "kwargs": {…}}]}`'


def read_suite(written: Node) -> dict[str, Any]:
    """The suite in the file that ``written`` names, relative to the YAML file. Raises :class:`SpecErrors`."""
    folder = Path(written.position.file).parent
    file = Path(os.path.normpath(folder / str(written.value)))  # not resolved: links are their owner's affair
    if not file.is_relative_to(folder):
        raise _fault(written, "a suite above this file", "Put it beside or below this file.")
    try:
        suite: dict[str, Any] = json.loads(file.read_bytes())
        for each in suite["expectations"]:
            given = {name: value for name, value in each["kwargs"].items() if name not in _RUN_ARGUMENTS}
            check_expectation(each["type"], given)
    except OSError:
        raise _fault(written, "there is no such suite file", "Correct the path.") from None
    except PydanticCustomError as problem:
        context = problem.context or {}
        message = f"in {written.value}: {problem.message()}"
        raise _fault(written, message, str(context.get("remedy")), context.get("found")) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _fault(written, "not a Great Expectations 1.x suite", f"Write JSON: {_EXAMPLE}.") from None
    return suite


def _fault(written: Node, message: str, remedy: str, found: str | None = None) -> SpecErrors:
    return SpecErrors(
        [
            SpecError(
                position=written.position,
                path="validate.suite",
                message=message,
                remedy=remedy,
                found=found or f"'{written.value}'",
            )
        ]
    )
