"""Each module with logic has a unit test file of its name, in the same place of the tree below tests/unit."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGES = ("alerts", "gateway", "gleaner", "jobs", "keda", "worker")
BRANCHES = (
    ast.If, ast.IfExp, ast.BoolOp, ast.comprehension, ast.For, ast.AsyncFor, ast.While,
    ast.Try, ast.TryStar, ast.Match,
)  # fmt: skip

COVERED_ELSEWHERE: dict[str, tuple[str, str]] = {
    # gateway
    "gateway/__main__.py": (
        "composition root: settings, logs, one process or several",
        "tests/integration/gateway/test_api_process.py",
    ),
    "gateway/app.py": (
        "composition root: builds the app and its connections",
        "tests/integration/api/test_api.py",
    ),
    "gateway/child.py": (
        "composition root: one of several processes",
        "tests/integration/gateway/test_gateway_processes.py",
    ),
    "gateway/courier/app.py": (
        "composition root: timers, dispatcher and Celery's consumer",
        "tests/integration/service/test_webhooks.py",
    ),
    # worker
    "worker/model/extractor/boundary.py": (
        "runs gliner2's layers",
        "tests/integration/model/test_extractors.py",
    ),
    "worker/model/extractor/engine.py": (
        "gliner2's models as a whole",
        "tests/integration/model/test_extractors.py",
    ),
    "worker/model/extractor/loading.py": (
        "builds gliner2's models",
        "tests/integration/model/test_extractors.py",
    ),
    "worker/model/extractor/span.py": (
        "runs gliner2's layers",
        "tests/integration/model/test_extractors.py",
    ),
    "worker/model/extractor/states.py": (
        "runs gliner2's layers",
        "tests/integration/model/test_extractors.py",
    ),
}
"""Modules whose logic shows only in a whole process or on a device: the reason, and the file that tests them."""


def has_logic(path: Path) -> bool:
    """Return whether a function of a module has a branch."""
    functions = (
        node
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    )
    return any(isinstance(node, BRANCHES) for function in functions for node in ast.walk(function))


def find_test_path(module: Path) -> Path:
    """Return the path of a module's unit tests; those of `__init__.py` are named for its package."""
    name = module.parent.name if module.name == "__init__.py" else module.stem.strip("_")
    return Path("tests/unit") / module.parent / f"test_{name}.py"


def list_untested(root: Path) -> list[str]:
    """Return the modules with logic below `root` that have no unit test file."""
    modules = (path.relative_to(root) for package in PACKAGES for path in (root / package).rglob("*.py"))
    return sorted(
        str(module)
        for module in modules
        if has_logic(root / module) and not (root / find_test_path(module)).is_file()
    )


def write_file(path: Path, text: str = "") -> None:
    """Write a file of the sample tree."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    "logic",
    [
        "if a: pass",
        "return 1 if a else 2",
        "return a or 2",
        "for b in a: pass",
        "while a: pass",
        "try: a()\n    finally: pass",
        "match a:\n      case 1: pass",
        "return [b for b in a]",
        "return lambda: a and 1",
    ],
)
def test_a_module_with_a_branch_and_no_test_is_found(tmp_path: Path, logic: str) -> None:
    """The rule sees each kind of branch, and only a file of the right name in the right folder satisfies it."""
    write_file(tmp_path / "jobs/redis/clients.py", f"def connect(a):\n    {logic}\n")
    write_file(tmp_path / "tests/unit/jobs/test_clients.py")
    write_file(tmp_path / "tests/unit/jobs/redis/test_connections.py")
    assert list_untested(tmp_path) == ["jobs/redis/clients.py"]
    write_file(tmp_path / "tests/unit/jobs/redis/test_clients.py")
    assert list_untested(tmp_path) == []


def test_a_module_without_branches_needs_no_test(tmp_path: Path) -> None:
    """Constants, plain calls and conditions outside functions are not logic."""
    write_file(tmp_path / "worker/names.py", "import sys\nA = 1 if sys else 2\ndef name(a):\n    return a.b(1)\n")
    assert list_untested(tmp_path) == []


@pytest.mark.parametrize(
    ("module", "test"),
    [
        ("gateway/__main__.py", "tests/unit/gateway/test_main.py"),
        ("gleaner/client/__init__.py", "tests/unit/gleaner/client/test_client.py"),
        ("jobs/codec.py", "tests/unit/jobs/test_codec.py"),
    ],
)
def test_where_the_tests_of_a_module_are(module: str, test: str) -> None:
    """Tests have the module's name and place."""
    assert find_test_path(Path(module)) == Path(test)


def test_every_module_with_logic_has_unit_tests() -> None:
    """A module without them is listed above; one that has them leaves the list."""
    assert list_untested(ROOT) == sorted(COVERED_ELSEWHERE)


def test_tests_named_instead_exist() -> None:
    """Every exception has a reason and a file."""
    assert all(reason and (ROOT / test).is_file() for reason, test in COVERED_ELSEWHERE.values())
