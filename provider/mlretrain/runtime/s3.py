"""Objects in S3 and whatever speaks its API: settings, the artifact store, listings, pyarrow's view."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlretrain.errors import ConfigError, MissingExtra, MlretrainError, NotFound, TransientError
from mlretrain.ports import ArtifactStore
from mlretrain.runtime.store import check_path, join_uri

_WRITER = "mlretrain-writer"
_ABSENT = {"NoSuchKey", "404", "NotFound"}
_REFUSED = {
    "403": "access is refused",
    "AccessDenied": "access is refused",
    "ExpiredToken": "the credentials have expired",
    "InvalidAccessKeyId": "the access key is unknown",
    "NoSuchBucket": "the bucket does not exist",
    "NotImplemented": "the endpoint does not support this operation",
    "SignatureDoesNotMatch": "the secret key is wrong",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Settings:
    """Where S3 is and who asks. What is ``None`` is found by boto3's and pyarrow's own chains."""

    endpoint_url: str | None = None
    region: str | None = None
    access_key_id: str | None = field(default=None, repr=False)
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> S3Settings:
        """The settings under the names that the AWS tools use."""
        return cls(
            endpoint_url=env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL") or None,
            region=env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or None,
            access_key_id=env.get("AWS_ACCESS_KEY_ID") or None,
            secret_access_key=env.get("AWS_SECRET_ACCESS_KEY") or None,
            session_token=env.get("AWS_SESSION_TOKEN") or None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Object:
    """One object of a listing; the etag without its quotes."""

    key: str
    size: int
    etag: str


class S3Store(ArtifactStore):
    """Objects below ``s3://bucket/prefix``."""

    def __init__(self, root_uri: str, settings: S3Settings) -> None:
        self._bucket, key = split_s3(root_uri)
        self._prefix = key.rstrip("/")
        self.root_uri = f"s3://{self._bucket}/{self._prefix}".rstrip("/")
        self._settings = settings

    def read(self, path: str) -> bytes:
        with self._client(path) as client:
            answer = client.get_object(Bucket=self._bucket, Key=self._key(path))
            return bytes(answer["Body"].read())

    def write(self, path: str, data: bytes) -> None:
        with self._client(path) as client:
            client.put_object(Bucket=self._bucket, Key=self._key(path), Body=data)

    def create(self, path: str, data: bytes) -> bool:
        place = {"Bucket": self._bucket, "Key": self._key(path)}
        writer = uuid.uuid4().hex
        # Some endpoints (rclone) ignore If-None-Match: looking first guards all but simultaneous writers.
        if head_object(f"s3://{self._bucket}/{self._key(path)}", self._settings):
            return False
        with self._client(path) as client:
            while True:
                try:
                    client.put_object(**place, Body=data, IfNoneMatch="*", Metadata={_WRITER: writer})
                    return True
                except client.exceptions.ClientError as error:
                    code = error.response["Error"]["Code"]
                    if code in ("PreconditionFailed", "412"):
                        # boto3 repeats a PUT whose answer was lost: then the object in the way is our own.
                        return bool(client.head_object(**place)["Metadata"].get(_WRITER) == writer)
                    if code not in ("ConditionalRequestConflict", "409"):
                        raise

    def list(self, prefix: str) -> list[str]:
        if "/" in prefix:
            check_path(prefix.rpartition("/")[0])
        start = f"{self._prefix}/" if self._prefix else ""
        found = list_objects(self._bucket, start + prefix, self._settings)
        return sorted(each.key.removeprefix(start) for each in found)

    def _key(self, path: str) -> str:
        return f"{self._prefix}/{check_path(path)}" if self._prefix else check_path(path)

    @contextmanager
    def _client(self, path: str) -> Iterator[Any]:
        with s3_errors(join_uri(self.root_uri, path)):
            yield _client(self._settings)


def split_s3(uri: str) -> tuple[str, str]:
    """``s3://bucket/key`` as bucket and key."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not bucket:
        raise ConfigError("no bucket in the URI", found=uri, allowed="s3://<bucket>/<key>")
    return bucket, key


def list_objects(bucket: str, prefix: str, settings: S3Settings) -> list[S3Object]:
    """Every object whose key starts with ``prefix``, in the order of the keys' UTF-8 bytes."""
    with s3_errors(f"s3://{bucket}/{prefix}"):
        pages = _client(settings).get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [
            S3Object(key=each["Key"], size=each["Size"], etag=each["ETag"].strip('"'))
            for page in pages
            for each in page.get("Contents", ())
        ]


def head_object(uri: str, settings: S3Settings) -> S3Object | None:
    """The object at ``uri``, or ``None``."""
    bucket, key = split_s3(uri)
    try:
        with s3_errors(uri):
            head = _client(settings).head_object(Bucket=bucket, Key=key)
    except NotFound:
        return None
    return S3Object(key=key, size=head["ContentLength"], etag=head["ETag"].strip('"'))


def put_file(uri: str, path: Path, settings: S3Settings, *, kms_key: str | None = None) -> None:
    """Copy a file, of up to S3's 5 GiB for one request, to ``uri``, without holding it in memory.

    :param kms_key: encrypts the object; none: as the bucket does by itself.
    """
    bucket, key = split_s3(uri)
    encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key} if kms_key else {}
    with s3_errors(uri), path.open("rb") as body:
        _client(settings).put_object(Bucket=bucket, Key=key, Body=body, **encryption)


def delete_object(uri: str, settings: S3Settings) -> None:
    """Delete the object at ``uri``, if there is one."""
    bucket, key = split_s3(uri)
    with s3_errors(uri):
        _client(settings).delete_object(Bucket=bucket, Key=key)


def arrow_filesystem(settings: S3Settings) -> Any:
    """The same S3 as a ``pyarrow.fs.S3FileSystem``."""
    try:
        from pyarrow import fs
    except ImportError as error:
        raise MissingExtra.of("pyarrow", "data") from error
    options: dict[str, Any] = {
        "access_key": settings.access_key_id,
        "secret_key": settings.secret_access_key,
        "session_token": settings.session_token,
        "connect_timeout": 5,
        "request_timeout": 60,
    }
    if settings.region or settings.endpoint_url:
        options["region"] = settings.region or "us-east-1"
    if settings.endpoint_url:
        scheme, _, host = settings.endpoint_url.partition("://")
        options |= {"scheme": scheme, "endpoint_override": host.rstrip("/")}
    return fs.S3FileSystem(**options)


@functools.lru_cache(maxsize=8)
def _client(settings: S3Settings) -> Any:
    try:
        import boto3
        from botocore.config import Config
    except ImportError as error:
        raise MissingExtra.of("boto3", "amazon") from error
    # Checksums only where required, and the bucket in the path: what S3 look-alikes understand.
    config = Config(
        connect_timeout=5,
        read_timeout=60,
        retries={"mode": "standard", "total_max_attempts": 4},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path" if settings.endpoint_url else "auto"},
    )
    session = boto3.session.Session(
        aws_access_key_id=settings.access_key_id,
        aws_secret_access_key=settings.secret_access_key,
        aws_session_token=settings.session_token,
        region_name=settings.region,
    )
    region = None if session.region_name else "us-east-1"
    return session.client("s3", endpoint_url=settings.endpoint_url, region_name=region, config=config)


@contextmanager
def s3_errors(where: str) -> Iterator[None]:
    """Turns botocore's errors into ours, at ``where``."""
    try:
        yield
    except MlretrainError:
        raise
    except Exception as error:
        translated = _translate(error, where)
        if translated is None:
            raise
        raise translated from error


def _translate(error: Exception, where: str) -> MlretrainError | None:
    from botocore import exceptions

    if isinstance(error, exceptions.ClientError):
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in _ABSENT:
            return NotFound("no such object", where=where)
        if code in _REFUSED:
            return ConfigError(_REFUSED[code], where=where, found=code)
        return TransientError("S3 failed", where=where, found=str(error))
    if isinstance(error, (exceptions.NoCredentialsError, exceptions.PartialCredentialsError)):
        return ConfigError(
            "no S3 credentials", where=where, remedy="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        )
    if isinstance(error, exceptions.BotoCoreError):
        return TransientError("S3 does not answer", where=where, found=str(error))
    return None
