"""How a task fails: one clear message, and a retry only where a retry can help."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule
from airflow.sdk.exceptions import AirflowFailException

from mlretrain.errors import ConfigError, ContractError, InvalidInput, MlretrainError, NotFound

RETRY_POLICY = ExceptionRetryPolicy(
    rules=[
        RetryRule(
            exception=[InvalidInput, NotFound, ContractError, ConfigError],
            action=RetryAction.FAIL,
            reason="A retry cannot mend data, contracts or settings.",
        )
    ]
)
"""Whatever ``retries`` says, errors whose exit code says that a retry cannot help fail the task at once."""


@contextmanager
def plain_errors() -> Iterator[None]:
    """Let a :class:`~mlretrain.errors.MlretrainError` out without a trail of frames."""
    try:
        yield
    except MlretrainError as error:
        raise error.with_traceback(None) from None


@contextmanager
def plain_failures() -> Iterator[None]:
    """:func:`plain_errors` for sensors, which would swallow an error that is not Airflow's own."""
    try:
        yield
    except MlretrainError as error:
        if error.retryable:
            raise error.with_traceback(None) from None
        raise AirflowFailException(str(error)) from None
