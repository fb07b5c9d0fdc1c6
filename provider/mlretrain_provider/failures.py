"""How a task fails: one clear message, and a retry only where a retry can help."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.sdk.exceptions import AirflowFailException

from mlretrain.errors import MlretrainError


@contextmanager
def plain_failures() -> Iterator[None]:
    """Turn a :class:`~mlretrain.errors.MlretrainError` into a task failure without a trail of frames.

    A retry cannot mend data, contracts or settings: those fail the task for good, whatever ``retries`` says.
    """
    try:
        yield
    except MlretrainError as error:
        if error.retryable:
            raise error.with_traceback(None) from None
        raise AirflowFailException(str(error)) from None
