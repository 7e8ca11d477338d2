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
"""Imported by a benchmark in a separate environment."""
PROJECTS = {
    project["name"]: project
    for path in ("pyproject.toml", "service/pyproject.toml")
    if (project := tomllib.loads((ROOT / path).read_text())["project"])
}


def imported(folder: str) -> set[str]:
    """Return the distributions that the folder's files import, anywhere in them."""
    distributions = packages_distributions()
    names_imported = set()
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
                    names_imported.add(PART_OF.get(canonical(first), canonical(first)))
    return names_imported


def declared(distribution: str, *extras: str) -> set[str]:
    """Return the distributions that installing `distribution` with these extras requires, ours expanded."""
    project = PROJECTS[distribution]
    names: set[str] = set()
    requirements = [
        *project["dependencies"],
        *(line for e in extras for line in project["optional-dependencies"][e]),
    ]
    for requirement in requirements:
        name, _, inner = re.split(r"[<>=;\s]", requirement)[0].partition("[")
        names |= declared(name, *inner.rstrip("]").split(",")) if name in PROJECTS else {canonical(name)}
    return names


def canonical(name: str) -> str:
    """Normalise a distribution's name as the index does."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize(
    ("folder", "distribution", "extras"),
    [
        ("gleaner", "gleaner-ner", ("all", "datasets", "eval", "frame", "preflight", "spacy")),
        ("jobs", "gleaner-ner-service", ("flower", "otel")),
        ("gateway", "gleaner-ner-service", ("gateway",)),
        ("worker", "gleaner-ner-service", ("worker", "gliner2", "onnx", "openvino", "spacy")),
        ("tests", "gleaner-ner", ("dev",)),
        ("benchmarks", "gleaner-ner", ("dev",)),
        ("docs", "gleaner-ner", ("dev",)),
        ("alerts", "gleaner-ner", ("dev",)),
        ("scripts", "gleaner-ner", ("dev",)),
    ],
)
def test_what_is_imported_is_declared(folder: str, distribution: str, extras: tuple[str, ...]) -> None:
    """A clean installation with a process's extra has everything that process imports."""
    assert imported(folder) - declared(distribution, *extras) - NOT_OURS == set()


def test_what_is_declared_is_pinned() -> None:
    """Every dependency of the dev extra has its version in constraints.txt, without a local suffix."""
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")
    )
    assert declared("gleaner-ner", "dev") - {canonical(name) for name in pins} == set()
    assert [version for version in pins.values() if "+" in version] == []
