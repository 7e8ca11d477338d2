"""Program that converts pickled weights to safetensors; the worker runs it without its environment and its modules.

    python -I unpickling.py TARGET MAX_BYTES SOURCE...

There are three layers of defence. The names in the pickle are compared with a list before anything is unpickled.
torch unpickles with `weights_only`, which calls only functions that create tensors. And before that the process has
given up its permissions: no file but TARGET can be written, and sockets and new processes are refused.
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
"""All names that the pickle of a state dict contains."""
WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
"""Keys under which training checkpoints store the state dict."""
DTYPES = {"float64": "F64", "int64": "I64", "float32": "F32", "int32": "I32", "float16": "F16", "bfloat16": "BF16",
          "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL"}  # fmt: skip
MAX_PICKLE_BYTES = 16 * 2**20
"""Most bytes of the pickle itself, without tensors. With a thousand tensors it has some 200 kB."""
MAX_ENTRIES = 100_000
SLACK_BYTES = 2**30
"""Address space in addition to the files, the tensor being copied and everything mapped already."""
IMPORT_BYTES = 64 * 2**30
"""Address space for importing torch, whose CUDA libraries are large."""
CHUNK_BYTES = 64 * 2**20


class RefusedError(Exception):
    """The file is not a state dict that can be converted; the message begins with its name."""


def main(arguments: Sequence[str]) -> int:
    """Check, convert, and print JSON: `error`, `fault`, or `tensors` and `confined` (the kernel filters calls)."""
    target, max_bytes, sources = Path(arguments[0]), int(arguments[1]), [Path(name) for name in arguments[2:]]
    try:
        with target.open("xb") as file:
            limit_memory(SLACK_BYTES)
            for source in sources:
                check_archive(source)
            confined = confine_process(max_bytes, sum(source.stat().st_size for source in sources))
            reply: dict[str, Any] = {"tensors": convert_files(sources, file, max_bytes), "confined": confined}
    except RefusedError as refusal:
        reply = {"error": str(refusal)}
    except ImportError as error:
        reply = {"fault": f"a package is missing ({' '.join(str(error).split())[:200]})"}
    except MemoryError:
        reply = {"error": f"{sources[0].name}: it needs more memory than weights of its size"}
    except Exception as error:  # noqa: BLE001  # torch raises many kinds on malformed files; any is a refusal
        text = " ".join(str(error).split())[:200]
        reply = {"error": f"{sources[0].name}: torch cannot read it ({type(error).__name__}: {text})"}
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            reply = {"fault": "the disk is full"}
    sys.stdout.write(json.dumps(reply))
    return int("tensors" not in reply)


def convert_files(sources: Sequence[Path], file: IO[bytes], max_bytes: int) -> int:
    """Write the tensors of all sources as one safetensors file, and return their number.

    Raises:
        RefusedError: a source is not a state dict, or its tensors are larger than `max_bytes`.
    """
    import torch

    tensors: dict[str, torch.Tensor] = {}
    for source in sources:
        content = torch.load(source, map_location="cpu", weights_only=True, mmap=True)
        for name, tensor in read_state(source.name, content).items():
            if name in tensors:
                raise RefusedError(f"{source.name}: the tensor {name[:80]!r} is also in another shard")
            tensors[name] = tensor
    if not tensors:
        raise RefusedError(f"{sources[0].name}: it has no tensors")
    distinct, aliases = separate_aliases(tensors)
    total = sum(tensor.numel() * tensor.element_size() for tensor in distinct.values())
    if total > max_bytes:
        raise RefusedError(
            f"{sources[0].name}: declares {total:,} bytes of tensors; the file cannot hold that many"
        )
    write_safetensors(file, distinct, aliases)
    return len(tensors)


def check_archive(path: Path) -> None:
    """Check the archive's directory and its pickle, both read as data.

    Raises:
        RefusedError: it is compressed or not in torch's format, or its pickle has names that no state dict needs.
    """
    name = path.name
    if not zipfile.is_zipfile(path):
        raise RefusedError(
            f"{name}: not in the format that torch writes since version 1.6; older pickles are not supported"
        )
    with zipfile.ZipFile(path) as archive:
        pickle = _check_entries(name, archive.infolist(), path.stat().st_size)
        order = pickle.filename.removesuffix("data.pkl") + "byteorder"
        if order in archive.namelist() and archive.read(order) != b"little":
            raise RefusedError(f"{name}: its numbers are big-endian")
        content = archive.read(pickle)
    for reference in iter_references(name, content):
        if reference not in GLOBALS:
            raise RefusedError(
                f"{name}: the pickle calls {reference.replace(' ', '.')[:80]!r}, which no weights need; it may "
                "be malicious. Nothing in it was run"
            )


def _check_entries(name: str, entries: Sequence[zipfile.ZipInfo], size: int) -> zipfile.ZipInfo:
    """Return the entry of an archive's only pickle."""
    if len(entries) > MAX_ENTRIES or len({entry.filename for entry in entries}) != len(entries):
        raise RefusedError(f"{name}: its directory has too many entries, or a repeated one")
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
        raise RefusedError(f"{name}: it is compressed, and torch does not compress weights")
    if sum(entry.file_size for entry in entries) > size:
        raise RefusedError(f"{name}: its entries are larger than the file")
    pickles = [entry for entry in entries if entry.filename.endswith(".pkl") or "/code/" in entry.filename]
    if len(pickles) != 1 or not pickles[0].filename.endswith("/data.pkl"):
        raise RefusedError(f"{name}: it contains a program or no pickle, not the weights of a model")
    if pickles[0].file_size > MAX_PICKLE_BYTES:
        raise RefusedError(f"{name}: its pickle has {pickles[0].file_size:,} bytes without the tensors")
    return pickles[0]


def iter_references(name: str, content: bytes) -> Iterator[str]:
    """Yield the functions and classes named in a pickle, as "module name"; nothing is imported.

    Raises:
        RefusedError: it is not a pickle, or the names cannot be read without running it.
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
    """Return the tensors by name, unwrapped from a training checkpoint's dict.

    Raises:
        RefusedError: it contains anything but dense tensors on the CPU.
    """
    import torch

    for _ in range(3):
        if not isinstance(content, dict) or any(isinstance(value, torch.Tensor) for value in content.values()):
            break
        content = next((content[key] for key in WRAPPERS if isinstance(content.get(key), dict)), content)
    if not isinstance(content, dict):
        raise RefusedError(f"{name}: contains a {type(content).__name__}, not a dict of tensors")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise RefusedError(f"{name}: {str(key)[:80]!r} is not a tensor but a {type(value).__name__}")
        dtype = str(value.dtype).removeprefix("torch.")
        if dtype not in DTYPES or value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
            raise RefusedError(f"{name}: the tensor {key[:80]!r} ({dtype}) cannot be converted")
        size = value.element_size()
        steps = zip(value.shape, value.stride(), strict=True)
        reach = sum((n - 1) * step for n, step in steps) if value.numel() else -1
        if (value.storage_offset() + reach + 1) * size > value.untyped_storage().nbytes():
            raise RefusedError(f"{name}: the tensor {key[:80]!r} is larger than its data")
    return content


def separate_aliases(tensors: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the distinct tensors, and for each repeated one the name of its equal.

    gliner reads and writes repeated tensors as metadata of a safetensors file.
    """
    distinct: dict[str, Any] = {}
    aliases: dict[str, str] = {}
    names: dict[tuple[Any, ...], str] = {}
    for name, tensor in tensors.items():
        identity = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        if tensor.numel() and identity in names:
            aliases[name] = names[identity]
        else:
            names[identity] = name
            distinct[name] = tensor.detach()
    return distinct, aliases


def write_safetensors(file: IO[bytes], tensors: Mapping[str, Any], aliases: Mapping[str, str]) -> None:
    """Write a safetensors file, tensor by tensor, the widest numbers first so that all are aligned."""
    import torch

    header: dict[str, Any] = {"__metadata__": {**aliases, "format": "pt"}}
    ranked = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    offset = 0
    for name, tensor in ranked:
        end = offset + tensor.numel() * tensor.element_size()
        dtype = DTYPES[str(tensor.dtype).removeprefix("torch.")]
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    file.write(len(raw).to_bytes(8, "little") + raw)
    for _, tensor in ranked:
        content = memoryview(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
        for start in range(0, len(content), CHUNK_BYTES):
            file.write(content[start : start + CHUNK_BYTES])
    file.flush()
    os.fsync(file.fileno())


def limit_memory(spare: int) -> None:
    """Limit the process to this many bytes of address space in addition to the current ones."""
    mapped = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    ceiling = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = mapped + spare if ceiling == resource.RLIM_INFINITY else min(mapped + spare, ceiling)
    resource.setrlimit(resource.RLIMIT_AS, (limit, ceiling))


def confine_process(max_bytes: int, source_bytes: int) -> bool:
    """Give up all permissions that conversion does not need; return whether the kernel filters system calls.

    Args:
        max_bytes: bytes that may be written.
        source_bytes: size of the sources, which are mapped.
    """
    limit_memory(IMPORT_BYTES)
    import numpy  # noqa: F401  # later imports would have to read the disk
    import torch

    torch.set_num_threads(1)
    for limit, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, max_bytes + MAX_PICKLE_BYTES),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CPU, 120 + source_bytes // 2**22),
    ):
        ceiling = resource.getrlimit(limit)[1]
        value = value if ceiling == resource.RLIM_INFINITY else min(value, ceiling)
        resource.setrlimit(limit, (value, value))
    limit_memory(source_bytes + max_bytes + SLACK_BYTES)
    memory = resource.getrlimit(resource.RLIMIT_AS)[0]
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit raises an error
    try:
        filter_system_calls()
    except OSError:  # another kernel or processor, or a surrounding sandbox that forbids filters
        return False
    finally:
        sys.addaudithook(refuse_event)
    return True


def refuse_event(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse Python's operations on the machine; native code is stopped only by the kernel's filter."""
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
"""Python's audit events that are refused; a module's name stands for all of its events."""


@dataclass(frozen=True, slots=True)
class SystemCalls:
    """System call numbers of an architecture.

    Attributes:
        architecture: the kernel's number of it (AUDIT_ARCH).
        refused: sockets, new processes, signals to other processes, changes of a file system by name, tracing,
            namespaces, io_uring.
        opens: calls that open a file, with the index of their flags argument.
        clone: creates processes, which is refused, and threads.
    """

    architecture: int
    refused: str
    opens: Mapping[int, int]
    clone: int


SYSTEM_CALLS = {
    "x86_64": SystemCalls(
        0xC000003E,
        "41 42 43 44 46 49 50 53 57 58 59 62 76 77 82 83 84 85 86 87 88 90 91 92 93 94 101 129 132 133 155 157 161 "
        "165 166 188 189 190 200 234 235 248 249 250 258 259 260 261 263 264 265 266 268 272 280 288 297 298 304 "
        "308 310 311 316 321 322 424 425 426 427 434 435 437 438",
        {257: 2, 2: 1},
        56,
    ),
    "aarch64": SystemCalls(
        0xC00000B7,
        "5 6 7 33 34 35 36 37 38 39 40 41 45 46 51 52 53 54 55 88 97 117 129 130 131 138 167 198 199 200 201 "
        "202 203 206 211 217 218 219 221 240 241 242 265 268 270 271 276 280 281 424 425 426 427 434 435 437 438",
        {56: 2},
        220,
    ),
}
ABSENT = (435, 437)
"""`clone3` and `openat2` on every architecture: C libraries do without them on kernels that lack them."""


def filter_system_calls() -> None:
    """Install a seccomp filter that refuses unneeded system calls, permanently.

    Raises:
        OSError: there is no filter for this architecture, or the kernel does not accept it.
    """
    calls = SYSTEM_CALLS.get(platform.machine())
    if calls is None or sys.byteorder != "little":
        raise OSError("no filter for this machine")
    load, equal, above, some, answer = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, deny, absent, thread = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS, 0x00010000
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
    program = [(load, 0, 0, 4), (equal, 1, 0, calls.architecture), (answer, 0, 0, deny)]
    program += [(load, 0, 0, 0), (above, 0, 1, 0x40000000), (answer, 0, 0, deny)]
    for number in map(int, calls.refused.split()):
        program += [(equal, 0, 1, number), (answer, 0, 0, absent if number in ABSENT else deny)]
    for number, flags in calls.opens.items():
        program += [(equal, 0, 4, number), (load, 0, 0, 16 + 8 * flags), (some, 0, 1, writing)]
        program += [(answer, 0, 0, deny), (answer, 0, 0, allow)]
    program += [(equal, 0, 3, calls.clone), (load, 0, 0, 16), (some, 1, 0, thread), (answer, 0, 0, deny)]
    program += [(answer, 0, 0, allow)]
    raw = b"".join(struct.pack("=HBBI", *line) for line in program)
    code = ctypes.create_string_buffer(raw, len(raw))
    filters = struct.pack("@HP", len(program), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(1, signal.SIGKILL, 0, 0, 0)  # be killed when the worker ends
    libc.prctl(4, 0, 0, 0, 0)  # processes of the same user may not trace it
    for option, first, second in ((38, 1, 0), (22, 2, ctypes.c_char_p(filters))):
        if libc.prctl(option, first, second, 0, 0):
            raise OSError(ctypes.get_errno(), "the kernel accepts no filter")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
