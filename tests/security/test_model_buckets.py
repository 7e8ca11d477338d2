from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.security.test_model_folders import HEADER, SMALL_FILES, _safetensors, folder
from worker.model.errors import ModelBrokenError
from worker.model.sources.resolve import resolve_model

__all__ = ["folder"]  # fixtures


@pytest.fixture(scope="module")
def bucket() -> Iterator[Callable[[dict[str, bytes]], str]]:
    """Run a real (moto) S3 server; return a function that stores objects and returns the address of folder `m`."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    count = iter(range(1_000))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",  # pragma: allowlist secret
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            patch.setenv(name, value)

        def fill(objects: dict[str, bytes]) -> str:
            s3, name = boto3.client("s3"), f"bucket-{next(count)}"
            s3.create_bucket(Bucket=name)
            for path in SMALL_FILES:
                s3.upload_file(str(path), name, f"m/{path.name}")
            s3.put_object(Bucket=name, Key="m/model.safetensors", Body=_safetensors(HEADER))
            for key, body in objects.items():
                s3.put_object(Bucket=name, Key=key, Body=body)
            return f"s3://{name}/m"

        yield fill
    server.stop()


@pytest.mark.parametrize(
    "key",
    [
        "m/../../../escaped/sitecustomize.py",
        "m/../escaped.json",
        "m/..\\..\\escaped.json",
        "m/C:escaped.json",
    ],
)
def test_an_object_key_that_leads_out_of_the_cache_is_refused(
    bucket: Callable[[dict[str, bytes]], str], tmp_path: Path, key: str
) -> None:
    """Nothing is written outside the cache, nothing of such a name in it, and the message names the object."""
    cache = tmp_path / "a" / "b" / "cache"
    with pytest.raises(ModelBrokenError, match="could point out"):
        resolve_model(bucket({key: b"evil"}), None, cache)

    assert not [path for path in tmp_path.rglob("*") if "escaped" in path.name or path.suffix == ".py"]


def test_only_files_of_a_model_come_from_a_bucket(
    bucket: Callable[[dict[str, bytes]], str], tmp_path: Path
) -> None:
    """Code, pickles, other names and folders stay where they are; a model of that bucket works without them."""
    names = ("evil.py", "pytorch_model.bin", "sub/evil.json", "x.json", ".hidden.json", "README.md")
    resolved = resolve_model(bucket({f"m/{name}": b"x" for name in names}), None, tmp_path)

    assert {path.name for path in resolved.folder.iterdir()} == {
        "gleaner-manifest.json", "model.safetensors", *(path.name for path in SMALL_FILES),
    }  # fmt: skip


def test_the_size_of_an_object_is_bound_before_it_is_fetched(
    bucket: Callable[[dict[str, bytes]], str], tmp_path: Path
) -> None:
    """A configuration of megabytes is none."""
    with pytest.raises(ModelBrokenError, match="at most"):
        resolve_model(bucket({"m/gliner_config.json": b" " * 5_000_000}), None, tmp_path)
    assert not list(tmp_path.rglob("*.json"))
