"""Pin every package of the images by hash: service/pyproject.toml and constraints.txt -> locks/*.txt, by uv.

One lock per part of an image, each whole in itself: `worker` and the extras that the Dockerfile adds to it. torch
is in none, because its index is what differs between the worker's targets; what its CUDA build needs is in `cuda`.
Run it as `make locks`, which brings uv.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCKS = ROOT / "locks"
EXTRAS: dict[str, tuple[str, ...]] = {
    "gateway": ("gateway", "flower"),
    "worker": ("worker",),
    **{name: ("worker", name) for name in ("openvino", "onnx", "gliner2", "s3", "gs", "az")},
    **{name: (name,) for name in ("otel", "gpu")},
}
"""Each lock and the extras of service/pyproject.toml that it holds."""
TOOLS = {"build": "hatchling\n", "publish": "uv\n"}
"""Tools that build and publish the packages; not part of an image."""
FROM_TORCH = re.compile(r"(torch|triton|nvidia-(?!ml-py).*|cuda-.*)==")
PYTHON = "3.11"


def main() -> int:
    """Write all locks."""
    uv = sys.argv[1] if len(sys.argv) > 1 else "uv"
    LOCKS.mkdir(exist_ok=True)
    cuda: list[str] = []
    for name, extras in EXTRAS.items():
        flags = [flag for extra in extras for flag in ("--extra", extra)]
        with _client_requirements() as client:
            entries = list(
                _split_entries(_compile_lock(uv, [str(ROOT / "service" / "pyproject.toml"), client, *flags]))
            )
        cuda = [entry for entry in entries if FROM_TORCH.match(entry) and not entry.startswith("torch==")] or cuda
        _write_lock(name, [entry for entry in entries if not FROM_TORCH.match(entry)])
    _write_lock("cuda", cuda)
    for name, tools in TOOLS.items():
        with tempfile.NamedTemporaryFile("w", suffix=".in") as file:
            file.write(tools)
            file.flush()
            _write_lock(name, list(_split_entries(_compile_lock(uv, [file.name]))))
    return 0


@contextmanager
def _client_requirements() -> Iterator[str]:
    """Write the client's dependencies to a file of requirements: images carry the `gleaner` command too."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    with tempfile.NamedTemporaryFile("w", suffix=".in") as file:
        file.write("\n".join(project["dependencies"]))
        file.flush()
        yield file.name


def _compile_lock(uv: str, inputs: Sequence[str]) -> str:
    command = [uv, "pip", "compile", *inputs, "--constraints", str(ROOT / "constraints.txt"), "--universal"]
    command += ["--generate-hashes", "--python-version", PYTHON, "--no-header", "--no-annotate", "--quiet"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def _split_entries(text: str) -> Iterator[str]:
    """Yield each package with its hashes."""
    entry: list[str] = []
    for line in text.splitlines():
        if entry and not line.startswith(" "):
            yield "\n".join(entry)
            entry = []
        entry.append(line)
    if entry:
        yield "\n".join(entry)


def _write_lock(name: str, entries: Sequence[str]) -> None:
    head = "# Written by `make locks` from pyproject.toml and constraints.txt.\n"
    (LOCKS / f"{name}.txt").write_text(head + "\n".join(entries) + "\n")


if __name__ == "__main__":
    sys.exit(main())
