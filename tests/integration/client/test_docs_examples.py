"""Every code block of every page: run against a live stack, or checked for syntax where it belongs elsewhere.

A block whose fence has a title (```sh title="on a cluster") says where it belongs and is not run here; runbooks are
for a cluster as a whole. tests/operations/pages holds both against kubectl and the chart. A fence without a
language right below a Python block is that block's output.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt

from docs.site import SOURCES
from gleaner import Client
from tests.conftest import ROOT
from tests.support.processes.local_stack import RunningStack

LIMIT_S = 60
ELSEWHERE = ("mermaid", "acl", "go", "hcl", "text", "", "js", "promql", "lua", "toml", "ini")


@dataclass(frozen=True, slots=True)
class Block:
    """A fence: its language, whether it is marked as run elsewhere, and its expected output, if given."""

    language: str
    elsewhere: bool
    code: str
    line: int
    output: str | None = None


def blocks(page: Path) -> list[Block]:
    """Return a page's fences in order."""
    fences: list[Block] = []
    tokens = [token for token in MarkdownIt().parse(page.read_text(encoding="utf-8")) if token.level == 0]
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token.type != "fence":
            continue
        language, _, rest = token.info.strip().partition(" ")
        line = token.map[0] + 1 if token.map else 0
        if not language and before is not None and before.type == "fence" and fences[-1].language == "python":
            fences[-1] = Block("python", fences[-1].elsewhere, fences[-1].code, fences[-1].line, token.content)
        else:
            fences.append(Block(language, bool(rest) or "runbooks" in page.parts, token.content, line))
    return fences


PAGES = {str(page.relative_to(ROOT)): page for pattern in SOURCES for page in sorted(ROOT.glob(pattern))}
WITH_CODE = [name for name, page in PAGES.items() if blocks(page)]


@pytest.fixture(scope="module")
def home(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home folder with the stack's key in the place of `gleaner up`, and a curl that fails on errors."""
    home = tmp_path_factory.mktemp("home")
    (home / ".gleaner").symlink_to(stack.directory)
    (home / ".curlrc").write_text("fail-with-body\n")
    return home


@pytest.fixture
def environment(stack: RunningStack, home: Path, client: Client) -> dict[str, str]:
    """Return a reader's environment: commands on the path, a gateway's address and key, JOB: an ended job."""
    job = client.submit(["Ada Lovelace lived in London.", ""], ["person", "city"]).wait(LIMIT_S)
    return {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(home),
        "GLEANER_URL": stack.url,
        "GLEANER_API_KEY": stack.key,
        "URL": stack.url,
        "KEY": stack.key,
        "JOB": job.id,
        "NO_COLOR": "1",
        "PYTHONPATH": str(ROOT),
    }


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """Return a reader's folder: the shipped model and some texts."""
    (tmp_path / "models").symlink_to(ROOT / "models")
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "one.txt").write_text("Ada Lovelace lived in London.")
    (tmp_path / "documents.jsonl").write_text('{"id": "a", "text": "Ada Lovelace lived in London."}\n')
    return tmp_path


@pytest.mark.parametrize("name", WITH_CODE)
def test_every_block_is_code(name: str) -> None:
    """Each block parses in its language; a runbook's `gleaner` commands exist."""
    for block in blocks(PAGES[name]):
        position = f"{name}:{block.line}"
        if block.language == "python":
            ast.parse(block.code)
        elif block.language == "sh":
            checked = subprocess.run(("bash", "-n"), input=block.code, capture_output=True, text=True, check=False)
            assert checked.returncode == 0, f"{position}: {checked.stderr}"
        elif block.language == "json":
            json.loads(block.code.replace("…", ""))
        elif block.language == "yaml":
            list(yaml.safe_load_all(block.code))
        else:
            assert block.language in ELSEWHERE, position


@pytest.mark.parametrize("name", [name for name in WITH_CODE if any(not b.elsewhere for b in blocks(PAGES[name]))])
def test_every_block_of_a_page_runs(
    name: str, stack: RunningStack, environment: dict[str, str], workplace: Path
) -> None:
    """In order: the shell blocks in one shell, the Python blocks in one interpreter, with their output."""
    here = [block for block in blocks(PAGES[name]) if not block.elsewhere]
    shell = "\n".join(_without_setup(block.code) for block in here if block.language == "sh")
    if shell.strip():
        _run(("bash", "-euo", "pipefail", "-c", _addressed(shell, stack)), environment, workplace)
    for block, printed in _python(here, stack, environment, workplace):
        if block.output is not None:
            assert _settled(printed) == _settled(block.output), f"{name}:{block.line}"


def _without_setup(code: str) -> str:
    """Drop the lines with `make demo`, `make test` and `make up`: the stack runs, and this is a test."""
    return re.sub(r"^make (demo|test|up)\b.*$", "", code, flags=re.MULTILINE)


def _addressed(code: str, stack: RunningStack) -> str:
    return code.replace("http://127.0.0.1:8000", stack.url)


def _python(
    page: list[Block], stack: RunningStack, environment: dict[str, str], workplace: Path
) -> Iterator[tuple[Block, str]]:
    python = [block for block in page if block.language == "python"]
    if not python:
        return
    mark = "=== the next block ==="
    code = "".join(f"{_addressed(block.code, stack)}\nprint({mark!r})\n" for block in python)
    printed = _run((sys.executable, "-c", code), environment, workplace).split(f"{mark}\n")
    yield from zip(python, printed, strict=False)


def _run(command: tuple[str, ...], environment: dict[str, str], workplace: Path) -> str:
    ran = subprocess.run(
        command, cwd=workplace, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert ran.returncode == 0, f"{ran.stdout[-2000:]}\n{ran.stderr[-2000:]}"
    return ran.stdout


def _settled(output: str) -> str:
    """Remove the parts of output that differ from run to run: ids, and last digits of scores."""
    output = re.sub(r"\b(job|dlv|ep|wh)_\w+", r"\1_…", output.strip())
    return re.sub(r"\b(0\.\d\d)\d*", r"\1", output)
