from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest

from tests.conftest import ROOT

OURS = {"alerts", "benchmarks", "docs", "gateway", "gleaner", "jobs", "keda", "scripts", "tests", "worker"}
STANDARD = sys.stdlib_module_names | {"compression"}
"""Python's own modules, those that came after 3.11 too: code that runs on newer ones may ask for them."""
PART_OF = {
    "boto3": "moto",
    "httpcore": "httpx",
    "huggingface-hub": "transformers",
    "mkdocs": "mkdocs-material",
    "pillow": "matplotlib",
    "pydantic-core": "pydantic",
    "safetensors": "transformers",
    "sentencepiece": "gliner",
    "starlette": "fastapi",
    "tokenizers": "transformers",
}
"""Distributions that another one always brings, and whose version is that one's business."""
NOT_OURS = {"ray"}
"""Imported by a benchmark in an environment of its own."""
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def imported(folder: str) -> set[str]:
    """Distributions that the folder's files import, anywhere in them."""
    distributions = packages_distributions()
    found = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            else:
                continue
            for name in (name.partition(".")[0] for name in names):
                if name not in OURS and name not in STANDARD:
                    [first, *_] = distributions.get(name, [name])
                    found.add(PART_OF.get(canonical(first), canonical(first)))
    return found


def declared(*extras: str) -> set[str]:
    """Distributions that an installation with these extras asks for."""
    found: set[str] = set()
    listed = list(PROJECT["dependencies"])
    for extra in extras:
        listed += PROJECT["optional-dependencies"][extra]
    for requirement in listed:
        name, _, inner = re.split(r"[<>=;\s]", requirement)[0].partition("[")
        if name == PROJECT["name"]:
            found |= declared(*inner.rstrip("]").split(","))
        else:
            found.add(canonical(name))
    return found


def canonical(name: str) -> str:
    """A distribution's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize(
    ("folder", "extras"),
    [
        ("gleaner", ("all", "datasets", "eval", "frame", "spacy")),
        ("jobs", ("jobs", "flower", "otel")),
        ("gateway", ("gateway",)),
        ("worker", ("worker", "onnx", "openvino", "spacy")),
        ("tests", ("dev",)),
        ("benchmarks", ("dev",)),
        ("docs", ("dev",)),
        ("alerts", ("dev",)),
        ("scripts", ("dev",)),
    ],
)
def test_what_is_imported_is_declared(folder: str, extras: tuple[str, ...]) -> None:
    """A clean installation with a process's extra has everything that process imports."""
    assert imported(folder) - declared(*extras) - NOT_OURS == set()


def test_what_is_declared_is_pinned() -> None:
    """Every dependency of the dev extra has its version in constraints.txt, without a local suffix."""
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")
    )
    assert declared("dev") - {canonical(name) for name in pins} == set()
    assert [version for version in pins.values() if "+" in version] == []
