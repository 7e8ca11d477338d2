"""Converts pickled weights to safetensors: a program that the worker runs without its environment and its modules.

    python -I unpickling.py TARGET MOST_BYTES SOURCE...

There are three layers. The names in the pickle are compared with a list before anything is unpickled. torch
unpickles with `weights_only`, which calls nothing but what makes tensors. And by then the process has given up what
an attacker would want: no file but TARGET can be written, and there are no sockets and no new processes.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import pickletools  # nosec B403: reads opcodes, and runs none
import platform
import resource
import signal
import struct
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

GLOBALS = frozenset(
    {
        "collections OrderedDict",
        "torch._utils _rebuild_tensor_v2",
        "torch._utils _rebuild_parameter",
        "torch.storage UntypedStorage",
        *(
            f"torch {kind}Storage"
            for kind in ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
        ),
    }
)
"""All that the pickle of a state dict names."""
WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
"""Where training checkpoints keep the state dict."""
DTYPES = {"float64": "F64", "int64": "I64", "float32": "F32", "int32": "I32", "float16": "F16", "bfloat16": "BF16",
          "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL"}  # fmt: skip
MAX_PICKLE_BYTES = 16 * 2**20
"""Of the structure, without the tensors. That of a thousand tensors has some 200 kB."""
MAX_ENTRIES = 100_000
SLACK_BYTES = 2**30
"""Address space beyond the files, the tensor that is copied and what the libraries have mapped already."""
IMPORT_BYTES = 64 * 2**30
"""The same for importing torch, whose CUDA libraries are large."""
CHUNK_BYTES = 64 * 2**20


class RefusedError(Exception):
    """The file is no state dict that can be converted; the message ends "NAME: ..."."""


def main(arguments: Sequence[str]) -> int:
    """Check, convert, and print JSON: `error`, or `tensors` and whether the kernel filters calls (`confined`)."""
    target, most, sources = Path(arguments[0]), int(arguments[1]), [Path(name) for name in arguments[2:]]
    try:
        with target.open("xb") as file:
            bound_memory(SLACK_BYTES)
            for source in sources:
                check_archive(source)
            confined = confine(most, sum(source.stat().st_size for source in sources))
            answer: dict[str, Any] = {"tensors": convert(sources, file, most), "confined": confined}
    except RefusedError as refusal:
        answer = {"error": str(refusal)}
    except ImportError as error:
        answer = {"fault": f"a package is missing ({' '.join(str(error).split())[:200]})"}
    except MemoryError:
        answer = {"error": f"{sources[0].name}: it needs more memory than weights of its size do"}
    except Exception as error:  # noqa: BLE001  # torch raises whatever it likes on odd files; each is a refusal
        text = " ".join(str(error).split())[:200]
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        answer = (
            {"fault": "the disk is full"}
            if full
            else {"error": f"{sources[0].name}: torch cannot read it ({type(error).__name__}: {text})"}
        )
    sys.stdout.write(json.dumps(answer))
    return int("tensors" not in answer)


def convert(sources: Sequence[Path], file: IO[bytes], most: int) -> int:
    """Write the tensors of all sources as one safetensors file, and return their number.

    Raises:
        RefusedError: a source is no state dict, or its tensors are larger than the file can be.
    """
    import torch

    tensors: dict[str, torch.Tensor] = {}
    for source in sources:
        content = torch.load(source, map_location="cpu", weights_only=True, mmap=True)
        for name, tensor in read_state(source.name, content).items():
            if name in tensors:
                raise RefusedError(f"{source.name}: the tensor {name[:80]!r} is in another shard, too")
            tensors[name] = tensor
    if not tensors:
        raise RefusedError(f"{sources[0].name}: there are no tensors in it")
    kept, aliases = separate_aliases(tensors)
    total = sum(tensor.numel() * tensor.element_size() for tensor in kept.values())
    if total > most:
        raise RefusedError(
            f"{sources[0].name}: declares {total:,} bytes of tensors; the file cannot hold that many"
        )
    write(file, kept, aliases)
    return len(tensors)


def check_archive(path: Path) -> None:
    """Read the archive's directory and its pickle as data.

    Raises:
        RefusedError: it is compressed or not torch's format, or its pickle names what no state dict needs.
    """
    name = path.name
    if not zipfile.is_zipfile(path):
        raise RefusedError(
            f"{name}: not in the format that torch writes since version 1.6; older pickles are not supported"
        )
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        names = {entry.filename for entry in entries}
        if len(entries) > MAX_ENTRIES or len(names) != len(entries):
            raise RefusedError(f"{name}: its directory has too many entries, or one twice")
        if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
            raise RefusedError(f"{name}: it is compressed, and torch does not compress weights")
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise RefusedError(f"{name}: its entries are larger than the file")
        pickles = [entry for entry in entries if entry.filename.endswith(".pkl") or "/code/" in entry.filename]
        if len(pickles) != 1 or not pickles[0].filename.endswith("/data.pkl"):
            raise RefusedError(f"{name}: it holds a program or no pickle, not the weights of a model")
        if pickles[0].file_size > MAX_PICKLE_BYTES:
            raise RefusedError(f"{name}: its pickle has {pickles[0].file_size:,} bytes beside the tensors")
        order = pickles[0].filename.removesuffix("data.pkl") + "byteorder"
        if order in names and archive.read(order) != b"little":
            raise RefusedError(f"{name}: its numbers are big-endian")
        content = archive.read(pickles[0])
    for reference in references(name, content):
        if reference not in GLOBALS:
            raise RefusedError(
                f"{name}: the pickle asks for {reference.replace(' ', '.')[:80]!r}, which no weights need; it may "
                "be malicious. Nothing of it was run"
            )


def references(name: str, content: bytes) -> Iterator[str]:
    """Yield the functions and classes that a pickle names, as "module name"; nothing is imported.

    Raises:
        RefusedError: it is no pickle, or names them in a way that cannot be read without running it.
    """
    try:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name == "GLOBAL":
                yield str(argument)
            elif opcode.name in ("STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER"):
                raise RefusedError(f"{name}: {opcode.name} in its pickle, which torch.save does not write")
    except ValueError as error:
        raise RefusedError(f"{name}: its pickle is damaged") from error


def read_state(name: str, content: Any) -> Mapping[str, Any]:
    """Return the tensors by name, out of the dict that a training checkpoint may wrap them in.

    Raises:
        RefusedError: there is something else than dense tensors on the CPU.
    """
    import torch

    for _ in range(3):
        if not isinstance(content, dict) or any(isinstance(value, torch.Tensor) for value in content.values()):
            break
        content = next((content[key] for key in WRAPPERS if isinstance(content.get(key), dict)), content)
    if not isinstance(content, dict):
        raise RefusedError(f"{name}: holds a {type(content).__name__}, not a dict of tensors")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise RefusedError(f"{name}: {str(key)[:80]!r} is no tensor but a {type(value).__name__}")
        dtype = str(value.dtype).removeprefix("torch.")
        if dtype not in DTYPES or value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
            raise RefusedError(f"{name}: the tensor {key[:80]!r} ({dtype}) is of a kind that cannot be converted")
        size = value.element_size()
        steps = zip(value.shape, value.stride(), strict=True)
        reach = sum((n - 1) * step for n, step in steps) if value.numel() else -1
        if (value.storage_offset() + reach + 1) * size > value.untyped_storage().nbytes():
            raise RefusedError(f"{name}: the tensor {key[:80]!r} is larger than its data")
    return content


def separate_aliases(tensors: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the tensors without repetitions, and the name of the tensor that each repetition equals.

    gliner reads repetitions from the metadata of a safetensors file, which is also how it writes them.
    """
    kept: dict[str, Any] = {}
    aliases: dict[str, str] = {}
    names: dict[tuple[Any, ...], str] = {}
    for name, tensor in tensors.items():
        place = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        if tensor.numel() and place in names:
            aliases[name] = names[place]
        else:
            names[place] = name
            kept[name] = tensor.detach()
    return kept, aliases


def write(file: IO[bytes], tensors: Mapping[str, Any], aliases: Mapping[str, str]) -> None:
    """Write a safetensors file, one tensor after the other, the widest numbers first so that all are aligned."""
    import torch

    header: dict[str, Any] = {"__metadata__": {**aliases, "format": "pt"}}
    ranked = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    at = 0
    for name, tensor in ranked:
        end = at + tensor.numel() * tensor.element_size()
        dtype = DTYPES[str(tensor.dtype).removeprefix("torch.")]
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    file.write(len(raw).to_bytes(8, "little") + raw)
    for _, tensor in ranked:
        content = memoryview(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
        for start in range(0, len(content), CHUNK_BYTES):
            file.write(content[start : start + CHUNK_BYTES])
    file.flush()
    os.fsync(file.fileno())


def bound_memory(spare: int) -> None:
    """Let the process map no more than this many bytes beyond what it has mapped already."""
    mapped = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    ceiling = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = mapped + spare if ceiling == resource.RLIM_INFINITY else min(mapped + spare, ceiling)
    resource.setrlimit(resource.RLIMIT_AS, (limit, ceiling))


def confine(most: int, source_bytes: int) -> bool:
    """Give up what conversion does not need. Return whether the kernel filters system calls from now on.

    Args:
        most: bytes that may be written.
        source_bytes: size of the sources, which are mapped.
    """
    bound_memory(IMPORT_BYTES)
    import numpy  # noqa: F401  # what is imported later would have to be read from the disk
    import torch

    torch.set_num_threads(1)
    for limit, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, most + MAX_PICKLE_BYTES),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CPU, 120 + source_bytes // 2**22),
    ):
        ceiling = resource.getrlimit(limit)[1]
        value = value if ceiling == resource.RLIM_INFINITY else min(value, ceiling)
        resource.setrlimit(limit, (value, value))
    bound_memory(source_bytes + most + SLACK_BYTES)
    memory = resource.getrlimit(resource.RLIMIT_AS)[0]
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit is an error, not a death
    try:
        filter_system_calls()
    except OSError:  # another kernel, another processor, or a sandbox around us that does not let us have ours
        return False
    finally:
        sys.addaudithook(refuse_event)
    return True


def refuse_event(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse what Python code could do to the machine; native code is held by the kernel's filter alone."""
    if event == "open":
        flags = arguments[2] if isinstance(arguments[2], int) else 0
        refused = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))
    else:
        refused = event.partition(".")[0] in FORBIDDEN or event in FORBIDDEN
    if refused:
        raise PermissionError(f"{event} while weights are converted")


FORBIDDEN = frozenset(
    ("socket", "subprocess", "ctypes", "shutil", "urllib", "ftplib", "webbrowser", "os.system", "os.exec",
     "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.kill", "os.killpg", "os.remove", "os.rename",
     "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.chmod", "os.chown", "os.truncate", "os.putenv",
     "os.unsetenv")
)  # fmt: skip
"""Of Python's audit events; a module's name stands for all of its events."""


@dataclass(frozen=True, slots=True)
class Calls:
    """The system calls of one kind of machine, by number.

    Attributes:
        architecture: the kernel's name of the machine.
        refused: sockets, new processes, signals to others, all that changes a file system by name, tracing,
            namespaces, io_uring.
        opens: calls that open a file, with the place of their flags.
        clone: makes processes, which is refused, and threads.
    """

    architecture: int
    refused: str
    opens: Mapping[int, int]
    clone: int


CALLS = {
    "x86_64": Calls(
        0xC000003E,
        "41 42 43 44 46 49 50 53 57 58 59 62 76 77 82 83 84 85 86 87 88 90 91 92 93 94 101 129 132 133 155 157 161 "
        "165 166 188 189 190 200 234 235 248 249 250 258 259 260 261 263 264 265 266 268 272 280 288 297 298 304 "
        "308 310 311 316 321 322 424 425 426 427 434 435 437 438",
        {257: 2, 2: 1},
        56,
    ),
    "aarch64": Calls(
        0xC00000B7,
        "5 6 7 33 34 35 36 37 38 39 40 41 45 46 51 52 53 54 55 88 97 117 129 130 131 138 167 198 199 200 201 "
        "202 203 206 211 217 218 219 221 240 241 242 265 268 270 271 276 280 281 424 425 426 427 434 435 437 438",
        {56: 2},
        220,
    ),
}
ABSENT = (435, 437)
"""`clone3` and `openat2`, on every machine: C libraries do without them where the kernel has none."""


def filter_system_calls() -> None:
    """Have the kernel refuse this process all it does not need, for the rest of its life.

    Raises:
        OSError: there is no filter for this machine, or the kernel does not take it.
    """
    calls = CALLS.get(platform.machine())
    if calls is None or sys.byteorder != "little":
        raise OSError("no filter for this machine")
    load, equal, above, some, answer = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, deny, absent, thread = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS, 0x00010000
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
    program = [(load, 0, 0, 4), (equal, 1, 0, calls.architecture), (answer, 0, 0, deny)]
    program += [(load, 0, 0, 0), (above, 0, 1, 0x40000000), (answer, 0, 0, deny)]
    for number in map(int, calls.refused.split()):
        program += [(equal, 0, 1, number), (answer, 0, 0, absent if number in ABSENT else deny)]
    for number, place in calls.opens.items():
        program += [(equal, 0, 4, number), (load, 0, 0, 16 + 8 * place), (some, 0, 1, writing)]
        program += [(answer, 0, 0, deny), (answer, 0, 0, allow)]
    program += [(equal, 0, 3, calls.clone), (load, 0, 0, 16), (some, 1, 0, thread), (answer, 0, 0, deny)]
    program += [(answer, 0, 0, allow)]
    raw = b"".join(struct.pack("=HBBI", *line) for line in program)
    code = ctypes.create_string_buffer(raw, len(raw))
    filters = struct.pack("@HP", len(program), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(1, signal.SIGKILL, 0, 0, 0)  # die with the worker
    libc.prctl(4, 0, 0, 0, 0)  # no process of the same user may look in
    for option, first, second in ((38, 1, 0), (22, 2, ctypes.c_char_p(filters))):
        if libc.prctl(option, first, second, 0, 0):
            raise OSError(ctypes.get_errno(), "the kernel takes no filter")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
