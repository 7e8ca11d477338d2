from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.support.servers.hub import commit, hub
from worker.model.engine import EngineOptions, load_model
from worker.model.errors import ExtraMissingError, ModelBrokenError, ModelNotFoundError, PickleRefusedError
from worker.model.sources.resolve import Resolved, resolve_model

SHIPPED = Path(__file__).parents[3] / "models" / "gleaner-small"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Copy the shipped model for a test that damages it."""
    return Path(shutil.copytree(SHIPPED, tmp_path / "model"))


def test_a_folder_is_used_where_it_lies(tmp_path: Path) -> None:
    """A local folder is not copied; its revision is a short hash of its content, and can be demanded."""
    resolved = resolve_model(str(SHIPPED), None, tmp_path)

    assert resolved.folder == SHIPPED
    assert len(resolved.revision) == 12
    assert resolved == resolve_model(str(SHIPPED), resolved.revision, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_another_content_is_another_revision(folder: Path, tmp_path: Path) -> None:
    """Weights that are not the pinned ones are refused."""
    pinned = resolve_model(str(folder), None, tmp_path).revision
    config = json.loads((folder / "gliner_config.json").read_text())
    (folder / "gliner_config.json").write_text(json.dumps(config | {"max_len": 128}))

    assert pinned != resolve_model(str(folder), None, tmp_path).revision
    with pytest.raises(ModelBrokenError, match=pinned):
        resolve_model(str(folder), pinned, tmp_path)


def test_nothing_there_is_said_so(tmp_path: Path) -> None:
    """A path that is no folder and no hub id."""
    with pytest.raises(ModelNotFoundError, match="not a folder here"):
        resolve_model(str(tmp_path / "absent" / "model"), None, tmp_path)


@pytest.mark.parametrize("missing", ["gliner_config.json", "model.safetensors"])
def test_a_missing_file_is_named(folder: Path, tmp_path: Path, missing: str) -> None:
    """Half a model is refused before loading, with the file's name."""
    (folder / missing).unlink()

    with pytest.raises(ModelBrokenError, match=missing):
        resolve_model(str(folder), None, tmp_path)


def test_weights_cut_short_are_refused(folder: Path, tmp_path: Path) -> None:
    """A download that broke off is seen by its length, without reading the tensors."""
    weights = folder / "model.safetensors"
    with weights.open("r+b") as file:
        file.truncate(weights.stat().st_size - 1)

    with pytest.raises(ModelBrokenError, match="truncated"):
        resolve_model(str(folder), None, tmp_path)


def test_noise_for_weights_is_refused(folder: Path, tmp_path: Path) -> None:
    """A file that is no safetensors at all."""
    (folder / "model.safetensors").write_bytes(b"\xff" * 1000)

    with pytest.raises(ModelBrokenError, match="damaged"):
        resolve_model(str(folder), None, tmp_path)


def test_pickled_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    """A pickle can run code; the message says how to convert."""
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")

    with pytest.raises(PickleRefusedError, match=r"gleaner model convert \S+ FOLDER"):
        resolve_model(str(folder), None, tmp_path)


def test_weights_that_lack_a_layer_are_refused(folder: Path) -> None:
    """Gliner would fill the gap with random numbers and say nothing."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights.pop(next(name for name in sorted(weights) if "layer.3" in name))
    save_file(weights, folder / "model.safetensors")

    with pytest.raises(ModelBrokenError, match="1 weights are not in the file"):
        load_model(Resolved(folder, "x"), EngineOptions("cpu", "fp32"))


def test_a_missing_package_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error for gs:// without gcsfs names the package to install."""
    monkeypatch.setitem(sys.modules, "gcsfs", None)

    with pytest.raises(ExtraMissingError, match=r"gleaner-ner\[gs\]"):
        resolve_model("gs://bucket/model", None, tmp_path)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve the shipped model from a bucket on a real (moto) S3 server."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",  # pragma: allowlist secret
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="models")
    for path in SHIPPED.iterdir():
        s3.upload_file(str(path), "models", f"team/small/{path.name}")
    s3.put_object(Bucket="models", Key="pickled/gliner_config.json", Body=b"{}")
    s3.put_object(Bucket="models", Key="pickled/pytorch_model.bin", Body=b"\x80\x04.")
    yield "s3://models"
    server.stop()


def test_s3_fills_the_cache_once_and_mends_it(bucket: str, tmp_path: Path) -> None:
    """The first call fetches, the second trusts the checksums, a damaged copy is fetched again."""
    first = resolve_model(f"{bucket}/team/small", None, tmp_path)
    assert resolve_model(str(SHIPPED), None, tmp_path).revision == first.revision
    boto3.client("s3").delete_object(Bucket="models", Key="team/small/SOURCES.md")
    weights = first.folder / "model.safetensors"
    stamp = weights.stat().st_mtime_ns

    assert first == resolve_model(f"{bucket}/team/small/", None, tmp_path)
    assert stamp == weights.stat().st_mtime_ns

    with weights.open("r+b") as file:
        file.seek(100_000)
        file.write(b"damage")
    assert first == resolve_model(f"{bucket}/team/small", None, tmp_path)
    assert sha256((SHIPPED / "model.safetensors").read_bytes()).digest() == sha256(weights.read_bytes()).digest()


def test_s3_without_a_model_is_said_so(bucket: str, tmp_path: Path) -> None:
    """An empty address, a bucket that is not there, and a pickled model each have their error; no cache is left."""
    with pytest.raises(ModelNotFoundError, match="there are no files"):
        resolve_model(f"{bucket}/absent", None, tmp_path)
    with pytest.raises(ModelNotFoundError):
        resolve_model("s3://no-such-bucket/model", None, tmp_path)
    with pytest.raises(PickleRefusedError):
        resolve_model(f"{bucket}/pickled", None, tmp_path)
    assert [path for path in (tmp_path / "objects").iterdir() if path.suffix == ""] == []


def test_a_hub_id_is_fetched_pinned_and_without_pickles(tmp_path: Path) -> None:
    """HF_ENDPOINT is honoured; the revision is the commit; pickles stay away; afterwards it works offline."""
    code = (
        "import sys, pathlib; from worker.model.sources.resolve import resolve_model;"
        "print(resolve_model(sys.argv[1], None, pathlib.Path(sys.argv[2])))"
    )

    def fetch(source: str, **extra: str) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        environment |= {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1", **extra}
        command = [sys.executable, "-c", code, source, str(tmp_path)]
        return subprocess.run(
            command,
            env=environment,
            cwd=SHIPPED.parents[1],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    with hub({"owner/small": SHIPPED}) as url:
        fetched = fetch("owner/small", HF_ENDPOINT=url)
        absent = fetch("owner/absent", HF_ENDPOINT=url)
    offline = fetch("owner/small", HF_HUB_OFFLINE="1")

    assert commit("owner/small") in fetched.stdout, fetched.stderr
    assert fetched.stdout == offline.stdout, offline.stderr
    assert "ModelNotFoundError: owner/absent: not on the hub" in absent.stderr
    assert not list(tmp_path.rglob("*.bin"))
