"""Errors that say where, what was found, what was allowed and what to do.

Every class has an exit code, so that a job's exit status alone says whether a retry can help.
"""

from __future__ import annotations

from typing import Any, ClassVar


class MlretrainError(Exception):
    """Root of all errors raised on purpose.

    :param message: what went wrong, in one clause.
    :param where: the place: ``file:line:column``, ``dag/task/step``, or a URI.
    :param found: what was found there.
    :param allowed: what would have been accepted.
    :param remedy: what to do about it.
    """

    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        where: str | None = None,
        found: str | None = None,
        allowed: str | None = None,
        remedy: str | None = None,
    ) -> None:
        self.message = message
        self.where = where
        self.found = found
        self.allowed = allowed
        self.remedy = remedy
        super().__init__(message)

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        details = [f"found {self.found}"] if self.found else []
        details += [f"allowed: {self.allowed}"] if self.allowed else []
        if details:
            text += f" ({'; '.join(details)})"
        return f"{text}. {self.remedy}" if self.remedy else text

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.to_wire()))

    def to_wire(self) -> dict[str, str | None]:
        """The error as data, for a step's report."""
        return {
            "type": type(self).__name__,
            "message": self.message,
            "where": self.where,
            "found": self.found,
            "allowed": self.allowed,
            "remedy": self.remedy,
        }


class UserCodeError(MlretrainError):
    """The user's function or command failed; whether a retry helps is the task's own setting."""

    exit_code = 10
    retryable = True


class InvalidInput(MlretrainError):
    """Data that cannot be used as it is: missing, empty, changed since it was resolved, failed validation."""

    exit_code = 11


class ContractError(MlretrainError):
    """Two parts disagree: an unknown protocol, a report that does not fit its request."""

    exit_code = 12


class Superseded(ContractError):
    """A later act has been done in the meantime; this one changes nothing."""


class ConfigError(MlretrainError):
    """A setting that cannot work, found at run time."""

    exit_code = 13


class UnmetRequirements(ConfigError):
    """The packages that are asked for cannot be installed, or are not there."""


class MissingExtra(ConfigError):
    """An optional dependency is not installed."""

    @classmethod
    def of(cls, package: str, extra: str) -> MissingExtra:
        """The error for ``package``, which the extra ``extra`` would install."""
        return cls(
            f"{package} is not installed",
            remedy=f"pip install 'airflow-provider-mlretrain[{extra}]'",
        )


class TransientError(MlretrainError):
    """The outside world failed for now: a store, a registry or a server did not answer."""

    exit_code = 20
    retryable = True


class NotFound(MlretrainError):
    """An object that is asked for by name does not exist."""

    exit_code = 11


def _rebuild(cls: type[MlretrainError], data: dict[str, Any]) -> MlretrainError:
    fields = {key: data.get(key) for key in ("where", "found", "allowed", "remedy")}
    return cls(str(data["message"]), **fields)


def from_wire(data: dict[str, Any]) -> MlretrainError:
    """The error that ``to_wire`` described; an unknown type becomes a :class:`UserCodeError`."""
    known = {cls.__name__: cls for cls in _all_errors(MlretrainError)}
    return _rebuild(known.get(str(data.get("type")), UserCodeError), data)


def _all_errors(root: type[MlretrainError]) -> list[type[MlretrainError]]:
    return [root, *(each for child in root.__subclasses__() for each in _all_errors(child))]
