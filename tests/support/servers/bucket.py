"""A model in a bucket on a real (moto) S3 server."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
from moto.server import ThreadedMotoServer


@contextmanager
def model_bucket(folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Serve a folder from a bucket; yield its address, and the environment that reaches it.

    Moto keeps what it has for all servers of a process, so each bucket has another name.
    """
    server, name = (
        ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False),
        f"models-{secrets.token_hex(4)}",
    )
    server.start()
    try:
        host, port = server.get_host_and_port()
        access = {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",  # pragma: allowlist secret
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        s3 = boto3.client(
            "s3", endpoint_url=access["AWS_ENDPOINT_URL"], region_name="us-east-1", aws_access_key_id="test",
            aws_secret_access_key="test",  # pragma: allowlist secret
        )  # fmt: skip
        s3.create_bucket(Bucket=name)
        for path in folder.rglob("*"):
            if path.is_file():
                s3.upload_file(str(path), name, f"bare/{path.relative_to(folder)}")
        yield f"s3://{name}/bare", access
    finally:
        server.stop()
