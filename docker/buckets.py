"""``python buckets.py NAME …``: make buckets that are not there yet, at the S3 that the environment names."""

from __future__ import annotations

import sys

import boto3


def main(names: list[str]) -> None:
    """Repeatable; says what it made."""
    client = boto3.client("s3")
    there = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
    for name in names:
        if name not in there:
            client.create_bucket(Bucket=name)
            sys.stdout.write(f"made bucket {name}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
