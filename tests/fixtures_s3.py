"""An S3 of the test's own, played by moto over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


def s3_env(endpoint: str) -> dict[str, str]:
    """The environment that points the AWS tools at ``endpoint``."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test-key",
        "AWS_SECRET_ACCESS_KEY": "test-secret",
        "AWS_REGION": "us-east-1",
    }


@contextmanager
def moto_server(bucket: str) -> Iterator[str]:
    """The endpoint of a server with one empty bucket."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    client = boto3.client(
        "s3", endpoint_url=endpoint, aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1"
    )
    client.create_bucket(Bucket=bucket)
    try:
        yield endpoint
    finally:
        server.stop()
