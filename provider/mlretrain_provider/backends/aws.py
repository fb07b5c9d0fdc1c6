"""Calls to AWS: tried again while it throttles, and failures told apart by what to do about them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from mlretrain.errors import ConfigError, MissingExtra, MlretrainError, TransientError

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

TRIES = 6
FIRST_PAUSE_S = 1.0
"""The longest pause after the first try; each further one may be twice as long."""

_THROTTLED = {
    "RequestLimitExceeded",
    "RequestThrottled",
    "Throttling",
    "ThrottledException",
    "ThrottlingException",
    "TooManyRequestsException",
}
_AWAY = {
    "InternalError",
    "InternalFailure",
    "InternalServerError",
    "RequestTimeout",
    "ServiceUnavailable",
    "ServiceUnavailableException",
}
_BAD_CREDENTIALS = {
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
_QUOTA = {"LimitExceededException", "ResourceLimitExceeded"}
_DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsCaller:
    """Makes calls with patience.

    :param conn_id: the Airflow connection, for remedies.
    :param sleep: waits so many seconds.
    :param jitter: a number in [0, 1), so that tasks which were throttled together do not come back together.
    """

    conn_id: str
    sleep: Callable[[float], None]
    jitter: Callable[[], float]

    def __call__(
        self, call: Callable[[], T], *, where: str, unless: Callable[[ClientError], bool] | None = None
    ) -> T | None:
        """What ``call`` returns, ``None`` for an error that ``unless`` expects.

        While AWS throttles or is away it is asked :data:`TRIES` times, over half a minute, on top of what
        boto3 tries by itself.

        :raises TransientError: it still does, or a quota is used up.
        :raises ConfigError: AWS refuses: credentials, permissions, roles, parameters.
        """
        try:
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError:
            raise MissingExtra.of("boto3", "amazon") from None
        tries = 1
        while True:
            try:
                return call()
            except ClientError as error:
                if unless is not None and unless(error):
                    return None
                if tries == TRIES or error_code(error) not in _THROTTLED | _AWAY:
                    raise self._refusal(error, where) from error
            except BotoCoreError as error:
                raise self._unanswered(error, where) from error
            self.sleep(self._pause(tries))
            tries += 1

    def _pause(self, tries: int) -> float:
        longest: float = FIRST_PAUSE_S * 2 ** (tries - 1)
        return longest * (0.5 + 0.5 * self.jitter())

    def _refusal(self, error: ClientError, where: str) -> MlretrainError:
        code, message = error_code(error), error_message(error)
        if code in _THROTTLED:
            return TransientError(f"AWS throttles, also the {TRIES}th time", where=where, found=code)
        if code in _AWAY:
            return TransientError("AWS is away", where=where, found=f"{code}: {message}")
        if code in _QUOTA:
            return TransientError(
                "a quota of the AWS account is used up",
                where=where,
                found=message,
                remedy="Wait for other jobs, or ask for more in Service Quotas.",
            )
        if code in _BAD_CREDENTIALS:
            return ConfigError(
                "AWS does not accept the credentials",
                where=where,
                found=code,
                remedy=f"Mend the credentials of the Airflow connection {self.conn_id!r}.",
            )
        if code in _DENIED:
            return ConfigError(
                "AWS denies access", where=where, found=message, remedy=_grant(message, self.conn_id)
            )
        remedy = _ROLE_REMEDY if _is_about_a_role(message) else None
        return ConfigError("AWS refuses the request", where=where, found=f"{code}: {message}", remedy=remedy)

    def _unanswered(self, error: Exception, where: str) -> MlretrainError:
        from botocore import exceptions

        if isinstance(error, exceptions.ParamValidationError):
            return ConfigError("not a request that AWS knows", where=where, found=str(error))
        if isinstance(
            error,
            (
                exceptions.NoCredentialsError,
                exceptions.PartialCredentialsError,
                exceptions.ProfileNotFound,
                exceptions.NoRegionError,
            ),
        ):
            return ConfigError(
                "AWS cannot be asked",
                where=where,
                found=str(error),
                remedy=f"Set login, password and region_name of the Airflow connection {self.conn_id!r}.",
            )
        return TransientError("AWS does not answer", where=where, found=str(error))


def error_code(error: ClientError) -> str:
    """AWS's own name of the error."""
    return str(error.response.get("Error", {}).get("Code", ""))


def error_message(error: ClientError) -> str:
    """AWS's own words."""
    return str(error.response.get("Error", {}).get("Message", ""))


def is_denied(error: ClientError) -> bool:
    """Whether AWS knows us but does not let us."""
    return error_code(error) in _DENIED


def is_absent(error: ClientError) -> bool:
    """Whether what was asked for does not exist; SageMaker says so in several ways."""
    missing = error_code(error) == "ValidationException" and any(
        words in error_message(error).lower() for words in ("not found", "could not find", "does not exist")
    )
    return missing or error_code(error) in ("ResourceNotFound", "ResourceNotFoundException")


def is_taken(error: ClientError) -> bool:
    """Whether there is something of that name already."""
    taken = error_code(error) == "ValidationException" and "already exist" in error_message(error)
    return taken or error_code(error) in ("ResourceInUse", "ResourceInUseException")


_ROLE_REMEDY = "Set role_arn to a role whose trust policy lets sagemaker.amazonaws.com assume it."


def _is_about_a_role(message: str) -> bool:
    return "assume" in message.lower() or "rolearn" in message.lower()


def _grant(message: str, conn_id: str) -> str:
    if "iam:PassRole" in message:
        return (
            f"Let the identity of the Airflow connection {conn_id!r} do iam:PassRole on sagemaker.role_arn."
        )
    return f"Let the identity of the Airflow connection {conn_id!r} do that."
