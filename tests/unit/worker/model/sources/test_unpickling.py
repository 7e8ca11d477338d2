"""Pickles read as data, and their tensors. The confined process around them: tests/security."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load

from worker.model.sources.unpickling import (
    ABSENT,
    DTYPES,
    GLOBALS,
    MAX_PICKLE_BYTES,
    SYSTEM_CALLS,
    RefusedError,
    check_archive,
    convert_files,
    iter_references,
    read_state,
    refuse_event,
    separate_aliases,
    write_safetensors,
)

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def write_archive(path: Path, pickled: bytes, entries: Mapping[str, bytes] | None = None, **options: Any) -> Path:
    """Write an archive as torch.save does, with this pickle."""
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr("archive/data.pkl", pickled)
        for name, content in (entries or {"archive/byteorder": b"little"}).items():
            archive.writestr(name, content)
    return path


@settings(max_examples=40)
@given(content=PLAIN, protocol=st.integers(0, 3))
def test_plain_data_calls_nothing(content: object, protocol: int) -> None:
    """In every protocol that names what it calls."""
    assert not [*iter_references("w", pickle.dumps(content, protocol))]


@settings(max_examples=40)
@given(content=PLAIN, called=st.sampled_from([os.system, eval, pickle.loads, BytesIO, Path, np.zeros, np.dtype]))
def test_whatever_is_called_is_not_on_the_list(content: object, called: Any) -> None:
    """However deep it hides: a name outside of the list is found without running anything."""
    references = [*iter_references("w", pickle.dumps([content, {"deep": (called,)}], 2))]
    assert len(references) == 1
    assert not GLOBALS & {*references}


@pytest.mark.parametrize("protocol", [4, 5])
def test_names_that_only_running_it_reveals_are_refused(protocol: int) -> None:
    """Newer protocols have them; torch writes none."""
    with pytest.raises(RefusedError, match="which torch"):
        [*iter_references("w", pickle.dumps(OrderedDict, protocol))]


@given(st.binary(max_size=60))
def test_random_bytes_are_refused_or_call_nothing(content: bytes) -> None:
    """Never another error."""
    try:
        references = [*iter_references("w", content)]
    except RefusedError:
        return
    assert all(isinstance(name, str) for name in references)


def test_what_torch_writes_is_accepted(tmp_path: Path) -> None:
    """A state dict, with parameters and every type that can be converted."""
    tensors = [torch.zeros(2, dtype=getattr(torch, name)) for name in DTYPES]
    state = OrderedDict((str(number), tensor) for number, tensor in enumerate(tensors))
    state["parameter"] = torch.nn.Parameter(torch.zeros(3))
    torch.save(state, tmp_path / "w.bin")
    check_archive(tmp_path / "w.bin")
    assert len(read_state("w", torch.load(tmp_path / "w.bin", weights_only=True))) == len(state)


@pytest.mark.parametrize(
    ("pickled", "entries", "reason"),
    [
        (pickle.dumps(print, 2), {}, r"calls '(__builtin__|builtins)\.print'"),
        (pickle.dumps({}, 2), {"archive/byteorder": b"big"}, "big-endian"),
        (pickle.dumps({}, 2), {"other/data.pkl": b""}, "pickle"),
        (b"\x80\x02}" + b"0" * MAX_PICKLE_BYTES, {}, "bytes without the tensors"),
    ],
)
def test_other_archives_are_refused(
    tmp_path: Path, pickled: bytes, entries: Mapping[str, bytes], reason: str
) -> None:
    """By their pickle's names, their byte order, a second pickle, a pickle that is too large."""
    with pytest.raises(RefusedError, match=reason):
        check_archive(write_archive(tmp_path / "w.bin", pickled, entries))


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    """It could expand to any size; so could a file that is no archive at all."""
    packed = write_archive(tmp_path / "w.bin", pickle.dumps({}, 2), compression=zipfile.ZIP_DEFLATED)
    (tmp_path / "old.bin").write_bytes(pickle.dumps({}, 2))
    for path in (packed, tmp_path / "old.bin"):
        with pytest.raises(RefusedError, match=path.name):
            check_archive(path)


@pytest.mark.parametrize(
    "wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": {"module": s}}]
)
def test_the_state_of_a_training_checkpoint_is_unwrapped(wrap: Any) -> None:
    """Under the keys that trainers use."""
    state = {"w": torch.zeros(2)}
    assert read_state("f", wrap(state)) is state


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"epoch": 3},
        {7: torch.zeros(1)},
        {"w": torch.zeros(1), "epoch": 3},
        {"w": torch.zeros(2, dtype=torch.complex64)},
        {"w": torch.eye(2).to_sparse()},
        {"w": torch.zeros(2, device="meta")},
    ],
)
def test_anything_but_dense_tensors_is_refused(content: Any) -> None:
    """The message begins with the file's name."""
    with pytest.raises(RefusedError, match=r"^file"):
        read_state("file", content)


def test_a_tensor_larger_than_its_data_is_refused() -> None:
    """It would read memory behind the end of the file."""
    tensor = torch.zeros(4)
    tensor.untyped_storage().resize_(8)
    with pytest.raises(RefusedError, match="larger than its data"):
        read_state("file", {"w": tensor})


def test_written_tensors_are_read_by_the_library(tmp_path: Path) -> None:
    """Views in full, repeated ones by name in the metadata, empty ones too."""
    wide = torch.arange(24.0).reshape(4, 6)
    tensors = {"a": wide, "same": wide, "part": wide[:, 1:3], "turned": wide.t(), "none": torch.zeros(0, 3),
               "half": torch.ones(3).half(), "byte": torch.ones(5, dtype=torch.uint8)}  # fmt: skip
    distinct, aliases = separate_aliases(tensors)
    assert aliases == {"same": "a"}
    with (tmp_path / "w").open("wb") as file:
        write_safetensors(file, distinct, aliases)
    stored = load((tmp_path / "w").read_bytes())
    assert stored.keys() == tensors.keys() - {"same"}
    assert all(np.array_equal(value, tensors[name].numpy()) for name, value in stored.items())


def test_several_files_become_one(tmp_path: Path) -> None:
    """Unless they contradict each other, have nothing, or declare more than they can hold."""
    for name in ("a", "b"):
        torch.save({name: torch.ones(3)}, tmp_path / name)
    torch.save({}, tmp_path / "empty")
    with (tmp_path / "whole").open("wb") as file:
        assert convert_files([tmp_path / "a", tmp_path / "b"], file, 24) == 2
    assert load((tmp_path / "whole").read_bytes()).keys() == {"a", "b"}
    for names, limit, reason in (
        ("aa", 99, "another shard"),
        (["empty"], 99, "no tensors"),
        ("ab", 23, "24 bytes"),
    ):
        with (tmp_path / "other").open("wb") as file, pytest.raises(RefusedError, match=reason):
            convert_files([tmp_path / name for name in names], file, limit)


@pytest.mark.parametrize(
    ("event", "arguments", "refused"),
    [
        ("open", ("f", "r", os.O_RDONLY), False),
        ("open", ("f", None, os.O_RDONLY | os.O_CREAT), True),
        ("open", ("f", "w", os.O_WRONLY), True),
        ("open", ("f", "r", None), False),
        ("socket.connect", (), True),
        ("subprocess.Popen", (), True),
        ("os.system", (), True),
        ("ctypes.dlopen", (), True),
        ("os.listdir", (), False),
        ("import", (), False),
    ],
)
def test_events_that_change_the_machine_are_refused(event: str, arguments: tuple[Any, ...], refused: bool) -> None:
    """By the names under which Python reports them; reading goes on."""
    if refused:
        with pytest.raises(PermissionError, match="while weights are converted"):
            refuse_event(event, arguments)
    else:
        refuse_event(event, arguments)


@pytest.mark.parametrize("machine", SYSTEM_CALLS)
def test_tables_of_system_calls_are_consistent(machine: str) -> None:
    """In order and without repetition; calls that are judged by their arguments are not refused as a whole."""
    calls = SYSTEM_CALLS[machine]
    refused = [*map(int, calls.refused.split())]
    assert refused == sorted(set(refused))
    assert {*ABSENT} <= {*refused}
    assert not {*refused} & {calls.clone, *calls.opens}
