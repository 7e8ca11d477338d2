"""Pickled weights are converted where that is allowed, and a pickle that wants more runs nothing."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import ROOT
from worker.model.errors import PickleRefusedError
from worker.model.sources import conversion
from worker.model.sources.resolve import SourceOptions, resolve_model

SHIPPED = ROOT / "models" / "gleaner-small"
PROGRAM = ROOT / "worker" / "model" / "sources" / "unpickling.py"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Copy the shipped model's small files; tests add weights."""
    copied = tmp_path / "model"
    copied.mkdir()
    for path in SHIPPED.iterdir():
        if path.suffix == ".json":
            shutil.copy(path, copied)
    return copied


def _refusal(folder: Path) -> str:
    """Return why a folder is refused although conversion is allowed; nothing is left of the attempt."""
    cache = folder.parent / "cache"
    with pytest.raises(PickleRefusedError) as caught:
        resolve_model(str(folder), None, cache, SourceOptions(convert="true"))
    assert not list(cache.rglob("*.safetensors"))
    assert not [path for path in (cache / "weights").iterdir() if path.suffix != ".lock"]
    assert "\n" not in str(caught.value)
    return str(caught.value)


class _Calls:
    """An object whose pickle calls a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._reduced = function, arguments

    def __reduce__(self) -> Any:
        return self._reduced


def _marking(marker: Path) -> dict[str, Any]:
    """Objects that would make a file if their pickle ran."""
    code = f"open({str(marker)!r}, 'w')"
    return {
        "os.system": _Calls(os.system, f"touch {marker}"),
        "subprocess": _Calls(subprocess.getoutput, f"touch {marker}"),
        "eval": _Calls(eval, code),
        "exec": _Calls(exec, code),
        "open": _Calls(open, str(marker), "w"),
        "getattr": _Calls(getattr, "x", "upper"),
        "torch.load": _Calls(torch.storage._load_from_bytes, pickle.dumps(_Calls(os.system, f"touch {marker}"))),
        "torch.hub": _Calls(torch.hub.load, "owner/name", "evil"),
        "torch.jit": _Calls(torch.jit.load, str(marker)),
        "numpy": _Calls(__import__("numpy").fromfile, str(marker)),
        "bytearray": _Calls(bytearray, 10**12),
        "shutil.rmtree": _Calls(shutil.rmtree, str(marker.parent / "model")),
    }


@pytest.mark.parametrize("attack", sorted(_marking(Path("marker"))))
def test_a_pickle_that_calls_a_function_is_refused_and_does_not_run(folder: Path, attack: str) -> None:
    """The message names function and remedy, and the function has not run."""
    marker = folder.parent / "ran"
    torch.save({"weight": torch.ones(2), "x": _marking(marker)[attack]}, folder / "pytorch_model.bin")

    refusal = _refusal(folder)

    assert refusal.startswith("pytorch_model.bin: the pickle calls '")
    assert "safetensors" in refusal
    assert not marker.exists()
    assert folder.is_dir()


def _archive(path: Path, pickled: bytes, data: bytes = b"\0" * 16, **options: Any) -> None:
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/data/0", data)
        archive.writestr("archive/version", "3\n")


def _declared(shape: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    """Return the pickle of a tensor of four numbers that says it has this shape."""
    buffer = io.BytesIO()
    torch.save({"weight": torch.zeros(4)}, buffer)
    with zipfile.ZipFile(buffer) as archive:
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        raw = archive.read(name)

    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", value) for value in values) + b"t"

    shaped = b"K\x04\x85q\x08K\x01\x85q\t"
    assert shaped in raw
    return raw.replace(shaped, numbers(shape) + b"q\x08" + numbers(stride) + b"q\t")


@pytest.mark.parametrize(
    ("shape", "stride"),
    [((10**6, 10**6), (10**6, 1)), ((10**6, 10**6), (0, 0)), ((2**62, 2), (2, 1)), ((5,), (1,)), ((4,), (-1,))],
)
def test_a_tensor_that_is_larger_than_its_file_is_refused(
    folder: Path, shape: tuple[int, ...], stride: tuple[int, ...]
) -> None:
    """Before memory is taken for it."""
    _archive(folder / "pytorch_model.bin", _declared(shape, stride))

    assert _refusal(folder).startswith("pytorch_model.bin: ")


def _zip_bomb(path: Path) -> None:
    _archive(path, b"\0" * 2**28, compression=zipfile.ZIP_DEFLATED)


def _large_pickle(path: Path) -> None:
    _archive(path, b"N0" * 2**24)


def _legacy(path: Path) -> None:
    torch.save({"weight": torch.ones(2)}, path, _use_new_zipfile_serialization=False)


def _legacy_calling(path: Path) -> None:
    path.write_bytes(pickle.dumps(_Calls(os.system, f"touch {path.parent.parent / 'ran'}")))


def _tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            member = tarfile.TarInfo(name)
            content = pickle.dumps(_Calls(os.system, f"touch {path.parent.parent / 'ran'}"))
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def _program(path: Path) -> None:
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))


def _stack_global(path: Path) -> None:
    _archive(path, pickle.dumps(_Calls(os.system, f"touch {path.parent.parent / 'ran'}"), protocol=4))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_zip_bomb, "compressed"),
        (_large_pickle, "without the tensors"),
        (_legacy, "since version 1.6"),
        (_legacy_calling, "since version 1.6"),
        (_tar, "since version 1.6"),
        (_program, "compressed"),
        (_stack_global, "STACK_GLOBAL"),
        (lambda path: path.write_bytes(b""), "since version 1.6"),
        (lambda path: _archive(path, b"garbage"), "damaged"),
        (lambda path: torch.save([1, 2], path), "a list, not a dict"),
        (lambda path: torch.save({}, path), "no tensors"),
        (lambda path: torch.save({"a": torch.ones(2), "b": 3}, path), "'b' is not a tensor"),
        (lambda path: torch.save({"a": torch.ones(2, dtype=torch.cfloat)}, path), "calls 'torch.Complex"),
        (lambda path: torch.save({"a": torch.ones(2, 2).to_sparse()}, path), "calls"),
        (lambda path: torch.save({"a": torch.ones(2, device="meta")}, path), "calls"),
    ],
)  # fmt: skip
def test_what_is_no_state_dict_is_refused_with_the_reason(
    folder: Path, make: Callable[[Path], object], reason: str
) -> None:
    """Bombs, old formats, programs, other objects and other tensors; nothing of them is run."""
    make(folder / "pytorch_model.bin")

    assert reason in _refusal(folder)
    assert not (folder.parent / "ran").exists()


UNCHECKED = """
import runpy, sys
program = runpy.run_path(sys.argv[1])
program["main"].__globals__["check_archive"] = lambda path: None
sys.exit(program["main"](sys.argv[2:]))
"""


@pytest.mark.parametrize("attack", ["os.system", "eval", "open", "torch.load"])
def test_torch_refuses_it_too(tmp_path: Path, attack: str) -> None:
    """Without the first check: two things would have to fail before a pickle ran, and in a bare process."""
    pickled = tmp_path / "pytorch_model.bin"
    torch.save({"x": _marking(tmp_path / "ran")[attack]}, pickled)
    run = subprocess.run(
        [sys.executable, "-c", UNCHECKED, str(PROGRAM), str(tmp_path / "made"), "1000", str(pickled)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert run.returncode == 1
    assert "torch cannot read it (UnpicklingError" in json.loads(run.stdout)["error"]
    assert not (tmp_path / "ran").exists()


CONFINED = """
import json, os, runpy, socket, subprocess, sys, threading
program = runpy.run_path(sys.argv[1])
answers = {"filtered": program["confine_process"](1000, 1000)}
"""
ATTEMPTS = {
    "write": "open(sys.argv[2], 'w')",
    "append": "open(__file__ if '__file__' in globals() else sys.argv[1], 'a')",
    "delete": "os.remove(sys.argv[1] + '.none')",
    "rename": "os.rename(sys.argv[1] + '.none', sys.argv[2])",
    "socket": "socket.socket()",
    "process": "subprocess.Popen(['true'])",
    "fork": "os.fork()",
    "exec": "os.execv('/bin/true', ['true'])",
    "kill": "os.kill(os.getppid(), 0)",
}


def test_the_process_can_do_nothing_but_convert(tmp_path: Path) -> None:
    """Python code in it gets PermissionError for files, sockets, processes and signals."""
    lines = [CONFINED]
    for name, attempt in ATTEMPTS.items():
        lines.append(f"try:\n    {attempt}\n    answers[{name!r}] = 'done'\n"
                     f"except Exception as error:\n    answers[{name!r}] = type(error).__name__")  # fmt: skip
    lines.append("print(json.dumps(answers))")
    run = subprocess.run(
        [sys.executable, "-c", "\n".join(lines), str(PROGRAM), str(tmp_path / "made")],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    answers = json.loads(run.stdout)
    answers.pop("filtered")
    assert answers == dict.fromkeys(ATTEMPTS, "PermissionError")
    assert list(tmp_path.iterdir()) == []


NATIVE = """
import ctypes, json, os, runpy, sys
libc = ctypes.CDLL(None, use_errno=True)
calls = {
    "creat": lambda: libc.creat(sys.argv[2].encode(), 0o600),
    "open": lambda: libc.open(sys.argv[2].encode(), os.O_WRONLY | os.O_CREAT, 0o600),
    "unlink": lambda: libc.unlink(sys.argv[3].encode()),
    "rename": lambda: libc.rename(sys.argv[3].encode(), sys.argv[2].encode()),
    "socket": lambda: libc.socket(2, 1, 0),
    "fork": lambda: libc.fork(),
    "execv": lambda: libc.execv(b"/bin/true", (ctypes.c_char_p * 2)(b"true", None)),
    "kill": lambda: libc.kill(os.getppid(), 0),
    "ptrace": lambda: libc.ptrace(0, 0, 0, 0),
}
program = runpy.run_path(sys.argv[1])
sys.addaudithook = lambda hook: None
filtered = program["confine_process"](1000, 1000)
answers = {}
for name, call in calls.items():
    answers[name] = call()
os.write(1, json.dumps([filtered, answers, libc.open(sys.argv[3].encode(), os.O_RDONLY) > 0]).encode())
"""


def test_native_code_in_the_process_can_do_nothing_either(tmp_path: Path) -> None:
    """The kernel's filter alone stops the attempts of an attacker who escaped from Python."""
    untouched = tmp_path / "kept"
    untouched.write_text("kept")
    run = subprocess.run(
        [sys.executable, "-c", NATIVE, str(PROGRAM), str(tmp_path / "made"), str(untouched)],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    filtered, answers, readable = json.loads(run.stdout)
    if not filtered:
        pytest.skip("this kernel takes no filter")
    assert set(answers.values()) == {-1}, answers
    assert readable
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_it_sees_no_secret_and_leaves_no_process(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its environment is empty but for a thread count, its input closed, and no file of ours is open in it."""
    monkeypatch.setenv("GLEANER_ENCRYPTION_KEYS", "hidden-key")
    spy = tmp_path / "spy.py"
    spy.write_text(
        "import json, os, sys\n"
        "seen = {'environment': dict(os.environ), 'files': sorted(os.listdir('/proc/self/fd'))[:4],\n"
        "        'input': sys.stdin.read(), 'folder': os.getcwd()}\n"
        f"open({str(tmp_path / 'seen')!r}, 'w').write(json.dumps(seen))\n"
        "print(json.dumps({'error': 'only looking'}))\n"
    )
    monkeypatch.setattr(conversion, "PROGRAM", spy)
    torch.save({"a": torch.ones(2)}, folder / "pytorch_model.bin")

    assert _refusal(folder).startswith("only looking. ")

    seen = json.loads((tmp_path / "seen").read_text())
    assert "hidden-key" not in str(seen)
    assert set(seen["environment"]) <= {"OMP_NUM_THREADS", "LC_CTYPE"}
    assert seen["files"] == ["0", "1", "2", "3"]  # the last is the listing itself
    assert seen["input"] == ""
    assert Path(seen["folder"]).is_relative_to(tmp_path / "cache" / "weights")
