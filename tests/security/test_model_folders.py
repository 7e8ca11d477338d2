"""A model's author gets no code run: folders, hub repositories and buckets that try to, and that try to exhaust."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import ROOT
from worker.model.errors import ModelBrokenError, ModelError, PickleRefusedError
from worker.model.sources import configs
from worker.model.sources.resolve import resolve_model

SHIPPED = ROOT / "models" / "gleaner-small"
SMALL_FILES = [path for path in SHIPPED.iterdir() if path.suffix == ".json"]
HEADER = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'


def _safetensors(header: bytes, data: bytes = b"\0") -> bytes:
    return len(header).to_bytes(8, "little") + header + data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Copy the shipped model's files with weights of one byte: enough for all checks before loading."""
    copied = tmp_path / "model"
    copied.mkdir()
    for path in SMALL_FILES:
        shutil.copy(path, copied)
    (copied / "model.safetensors").write_bytes(_safetensors(HEADER))
    return copied


def _edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text()) if path.is_file() else {}
    change(content)
    path.write_text(json.dumps(content))


def _refused(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        resolve_model(str(folder), None, folder.parent / "cache")
    return str(caught.value)


def test_the_folder_itself_is_a_model(folder: Path) -> None:
    """The unchanged folder is accepted: the tests' changes are the reason for refusals."""
    assert resolve_model(str(folder), None, folder.parent).folder == folder


class _Recorder(BaseHTTPRequestHandler):
    requests: list[str]

    def do_GET(self) -> None:
        """Write it down, and answer with code."""
        self.requests.append(self.path)
        body = b"import pathlib; pathlib.Path('ran').touch()\nclass Evil: pass\n"
        self.send_response(200)
        self.send_header("ETag", '"1"')
        self.send_header("X-Repo-Commit", "f" * 40)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Quiet."""


ATTEMPTS = """
import pathlib, sys
from worker.model import gliner_loader as library
from worker.model.sources.resolve import resolve_model

for folder in map(pathlib.Path, sys.argv[1:]):
    for attempt in (
        lambda: resolve_model(str(folder), None, folder.parent), lambda: library.load_gliner(folder, "cpu")
    ):
        try:
            attempt()
        except Exception as error:
            print(type(error).__name__, error)
"""


def test_a_configuration_that_names_code_runs_none(folder: Path, tmp_path: Path) -> None:
    """A class on a hub or next to the weights is never requested, neither by checks nor by loading."""
    remote, local = tmp_path / "remote", Path(shutil.copytree(folder, tmp_path / "local"))
    folder.rename(remote)
    for changed, reference in ((remote, "evil/repo--evil.Evil"), (local, "evil.Evil")):
        changes = {"auto_map": {"AutoModel": reference}, "_name_or_path": str(changed)}
        _edit(
            changed / "gliner_config.json",
            lambda content, changes=changes: content["encoder_config"].update(changes),
        )
    (local / "evil.py").write_text("import pathlib; pathlib.Path('ran').touch()\nclass Evil: pass\n")
    seen: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Hub", (_Recorder,), {"requests": seen}))
    thread = Thread(target=server.serve_forever)
    thread.start()
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment |= {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(tmp_path / "hf")}
    try:
        run = subprocess.run(
            [sys.executable, "-c", ATTEMPTS, str(remote), str(local)],
            env=environment | {"PYTHONPATH": str(ROOT)}, cwd=tmp_path, capture_output=True, text=True, timeout=180,
            check=True,
        )  # fmt: skip
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert [line.split()[0] for line in run.stdout.splitlines()] == ["ModelBrokenError"] * 4, run.stdout
    assert run.stdout.count("auto_map names code") == 3  # and once evil.py, which is seen first
    assert seen == []
    assert not list(tmp_path.rglob("ran"))


def _nested(content: Any, depth: int) -> Any:
    for level in range(depth):
        content = [content] if level % 2 else {"deeper": content}
    return content


@pytest.mark.parametrize("name", ["gliner_config.json", "config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("depth", [0, 1, 6])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("auto_map", {"AutoTokenizer": ["evil.Evil", None]}),
        ("custom_pipelines", {"ner": {"impl": "evil.Evil"}}),
        ("trust_remote_code", True),
        ("quantization_config", {"quant_method": "evil"}),
        ("_attn_implementation", "evil/kernel"),
        ("attn_implementation", "kernels-community/flash-attn3"),
        ("gguf_file", "evil.gguf"),
        ("init_inputs", ["/etc/passwd"]),
    ],
)
def test_keys_that_bring_code_are_refused_at_any_depth(
    folder: Path, name: str, depth: int, key: str, value: object
) -> None:
    """All settings files of transformers and gliner are checked; the message names key and remedy."""
    _edit(folder / name, lambda c: c.update({"x": _nested({key: value}, depth)} if depth else {key: value}))

    assert key in _refused(folder)


@given(st.lists(st.sampled_from(["a", "b", "list"]), max_size=12))
def test_no_nesting_hides_a_key(steps: list[str]) -> None:
    """Whatever an object is wrapped in."""
    content: Any = {"auto_map": {"AutoModel": "evil.Evil"}}
    for step in steps:
        content = [1, content] if step == "list" else {step: content, "z": None}
    with pytest.raises(ModelBrokenError, match="auto_map"):
        configs._check_values(Path("config.json"), {"x": content})


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("gliner_config.json", "encoder_config", {"model_type": "vision-encoder-decoder"}),
        ("gliner_config.json", "encoder_config", {"model_type": "timm_backbone"}),
        ("gliner_config.json", "encoder_config", {"model_type": ["bert"]}),
        ("gliner_config.json", "encoder_config", None),
        ("gliner_config.json", "encoder_config", "owner/name"),
        ("gliner_config.json", "span_encoder_config", {"model_type": "evil"}),
        ("gliner_config.json", "labels_encoder", "evil/repo"),
        ("gliner_config.json", "labels_encoder_config", {"model_type": "evil"}),
        ("gliner_config.json", "labels_decoder", "evil/repo"),
        ("gliner_config.json", "labels_decoder_config", {"model_type": "gpt2"}),
        ("gliner_config.json", "decoder_config", {"model_type": "gpt2"}),
        ("gliner_config.json", "relations_layer", "evil"),
        ("gliner_config.json", "model_type", "gliner_streaming_span"),
        ("gliner_config.json", "words_splitter_type", "hanlp"),
        ("config.json", "model_type", "vision-encoder-decoder"),
        ("tokenizer_config.json", "tokenizer_class", "Trainer"),
        ("tokenizer_config.json", "tokenizer_class", ["evil.Evil"]),
    ],
)
def test_only_encoders_and_tokenizers_that_are_built_in(folder: Path, name: str, key: str, value: object) -> None:
    """Any other class in a configuration is refused before gliner or transformers see it."""
    _edit(folder / name, lambda c: c.update({key: value}))

    assert key in _refused(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "extra/optimizer.pt", "x.PKL", "y.ckpt", "z.joblib", "w.h5"])
def test_a_pickle_beside_good_weights_is_refused(folder: Path, name: str) -> None:
    """A decoy in safetensors makes no pickle harmless; the message names the remedy."""
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"\x80\x04.")

    with pytest.raises(PickleRefusedError, match="Delete them"):
        resolve_model(str(folder), None, folder.parent)


def test_a_decoy_is_no_model(folder: Path) -> None:
    """Weights have one name; any other safetensors file does not stand for them."""
    (folder / "model.safetensors").rename(folder / "decoy.safetensors")
    assert "decoy.safetensors is not read" in _refused(folder)

    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    assert "pytorch_model.bin" in _refused(folder)


@pytest.mark.parametrize("name", ["evil.py", "sub/evil.PY", "evil.so", "evil.so.1", "evil.pyc", "__init__.py"])
def test_code_beside_the_weights_is_refused(folder: Path, name: str) -> None:
    """Even where nothing names it."""
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).touch()

    assert name in _refused(folder)


def test_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    """Neither a file nor a folder may lie elsewhere, but in the hub's own cache."""
    outside = tmp_path / "outside.json"
    outside.write_text("{}")
    (folder / "special_tokens_map.json").symlink_to(outside)
    assert "points out" in _refused(folder)

    (folder / "special_tokens_map.json").unlink()
    (folder / "sub").symlink_to(tmp_path)
    assert "points out" in _refused(folder)


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"hidden_size": NaN}',
        b"[]",
        b"\xff\xfe",
        b'{"a":[' + b"[]," * 2_000_000 + b"[]]}",
        b'{"a":"' + b"x" * 5_000_000 + b'"}',
    ],
    ids=["lists", "objects", "nan", "no object", "no text", "many values", "large"],
)
@pytest.mark.parametrize("name", ["gliner_config.json", "config.json"])
def test_a_json_bomb_is_one_sentence(folder: Path, name: str, content: bytes) -> None:
    """No RecursionError, and no memory worth a word."""
    (folder / name).write_bytes(content)

    assert name in _refused(folder)


@pytest.mark.parametrize(
    ("header", "data"),
    [
        (b"[" * 100_000 + b"]" * 100_000, b"\0"),
        (HEADER[:-1] + b',"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"\0"),
        (b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}', b"\0\0"),
        (b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[-1,0]}}', b""),
        (b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,1]}}', b"\0"),
        (b'{"a":{"dtype":"EVIL","shape":[1],"data_offsets":[0,1]}}', b"\0"),
        (b'{"a":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}}', b"\0"),
        (b'{"a":{"dtype":"U8","shape":[true],"data_offsets":[0,1]}}', b"\0"),
        (b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"__metadata__":{"a":["b"]}}', b"\0"),
        (b'{"a":[]}', b""),
        (b'{"a":{"dtype":"U8","shape":[18446744073709551615,18446744073709551615],"data_offsets":[0,1]}}', b"\0"),
        (b"[]", b""),
    ],
)  # fmt: skip
def test_a_malformed_header_is_one_sentence(folder: Path, header: bytes, data: bytes) -> None:
    """Depth, overlaps, gaps, offsets outside, wrong types: ModelBrokenError, and the file's name."""
    (folder / "model.safetensors").write_bytes(_safetensors(header, data))

    assert "model.safetensors: damaged or truncated" in _refused(folder)


def test_a_header_longer_than_any_is_not_read(folder: Path) -> None:
    """Its length is the file's word, and no reason to read all of it."""
    with (folder / "model.safetensors").open("wb") as file:
        file.write((2**33).to_bytes(8, "little"))
        file.truncate(2**34 - 1)

    assert "damaged" in _refused(folder)


@given(st.binary(max_size=300))
def test_any_bytes_for_weights_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    """Whatever a file holds, reading its header ends in shapes or in ModelBrokenError."""
    from worker.model.sources.safetensors import read_shapes

    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    path.write_bytes(content)
    with contextlib.suppress(ModelBrokenError):
        read_shapes(path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated"}}, "repeats"),
        ({"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a|a)+$"}, "behavior": "Isolated"}}, "repeats"),
        ({"normalizer": {"type": "Replace", "pattern": {"Regex": "a*a*a*a*b"}, "content": ""}}, "unbounded"),
        ({"normalizer": {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1000}}, "times longer"),
        ({"normalizer": {"type": "Sequence", "normalizers":
            [{"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}] * 40}}, "times longer"),
        ({"normalizer": {"type": "Prepend", "prepend": "a" * 1000}}, "prepends"),
        ({"padding": {"strategy": {"Fixed": 10**12}, "pad_id": 0}}, "pads"),
    ],
)  # fmt: skip
def test_a_tokenizer_that_blows_up_on_a_text_is_refused(folder: Path, change: dict[str, Any], reason: str) -> None:
    """Patterns that run away, replacements and padding without end."""
    _edit(folder / "tokenizer.json", lambda c: c.update(change))

    assert reason in _refused(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [("num_hidden_layers", 10**9), ("vocab_size", 2**40), ("hidden_size", 2**33), ("num_labels", 10**9)],
)
def test_a_number_that_no_model_has_is_refused(folder: Path, key: str, value: int) -> None:
    """Before anything is made of it."""
    _edit(folder / "gliner_config.json", lambda c: c["encoder_config"].update({key: value}))

    assert key in _refused(folder)


def test_every_file_counts_and_documents_do_not(folder: Path) -> None:
    """A revision says that all that could be read is the same; a README is read by people alone."""
    first = resolve_model(str(folder), None, folder.parent).revision
    (folder / "README.md").write_text("new")
    assert resolve_model(str(folder), None, folder.parent).revision == first
    for name in ("vocab.txt", "other.onnx", "sub/chat_template.jinja"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x")
        revision = resolve_model(str(folder), None, folder.parent).revision
        assert revision != first
        first = revision
