from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from docs import generate
from tests.conftest import ROOT

PAGES = sorted(
    path
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("models/**/*.md"))
    if path.name != "LICENSE" and not path.name.endswith(".untracked.md")
)
OTHER_VARIABLES = {
    "GLEANER_URL",  # the gleaner command's
    "GLEANER_API_KEY",
    "GLEANER_DATA_DIR",
    "GLEANER_REQUIRE_TOOLS",  # the tests'
    "GLEANER_DATA",  # the benchmarks'
}
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def test_the_pages_are_found() -> None:
    """The tests below look at something."""
    assert {"README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"} <= {page.name for page in PAGES}


@pytest.mark.parametrize("name", generate.PAGES)
def test_a_generated_page_is_what_the_code_says(name: str) -> None:
    """A setting or an error is documented the moment it exists: `make docs` writes the page."""
    assert (ROOT / "docs" / name).read_text() == generate.PAGES[name]()


def test_every_setting_and_error_is_explained() -> None:
    """No row of a generated page has an empty cell."""
    for name in generate.PAGES:
        rows = [line for line in (ROOT / "docs" / name).read_text().splitlines() if line.startswith("|")]
        assert rows
        assert [row for row in rows if re.search(r"\|\s*\|", row)] == []


def test_every_transition_is_explained() -> None:
    """The ledger's page names every script there is."""
    page = (ROOT / "docs" / "explanation" / "ledger.md").read_text()
    scripts = {path.stem for path in (ROOT / "jobs" / "ledger" / "lua").glob("[a-z]*.lua")}
    assert {name for name in scripts if f"`{name}`" not in page} == set()


@every_page
def test_make_commands_exist(page: Path) -> None:
    """A `make x` that a page names is a target."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^|\$ )make ([a-z-]+)", page.read_text(), re.MULTILINE)) <= targets


@every_page
def test_environment_variables_exist(page: Path) -> None:
    """A `GLEANER_X` that a page names is read by some process."""
    variables = {f"GLEANER_{field.upper()}" for _, _, cls in generate.SETTINGS for field in cls.model_fields}
    assert set(re.findall(r"\bGLEANER_[A-Z0-9_]*[A-Z0-9]\b", page.read_text())) <= variables | OTHER_VARIABLES


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    """A relative link names a file of the repository, and a heading in it."""
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text())):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert not anchor or anchor in headings(linked), target


@every_page
def test_code_that_a_page_names_exists(page: Path) -> None:
    """`package.module.name` in a page is code of ours, `path/file.py` is a file."""
    text = FENCE.sub("", page.read_text())
    for name in re.findall(r"`((?:gateway|gleaner|jobs|worker)(?:\.\w+)+)(?:\(\))?`", text):
        assert resolves(name) or is_value(name), name
    for path in re.findall(r"`([\w-]+/[\w./-]*\.(?:py|lua|sh|md|toml|json))`", text):
        assert (ROOT / path).exists(), path


def is_value(name: str) -> bool:
    """Return whether a dotted name is a value of the chart, whose groups share our packages' names."""
    schema = json.loads((ROOT / "charts" / "gleaner" / "values.schema.json").read_text())
    for part in name.split("."):
        schema = schema.get("properties", {}).get(part)
        if schema is None:
            return False
    return True


def headings(page: Path) -> set[str]:
    """Return a page's anchors as forges generate them."""
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def resolves(name: str) -> bool:
    """Return whether a dotted name is a package, a module, or defined in one (parsed, not imported)."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:cut])
        source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if source.exists():
            return defines(ast.parse(source.read_text()).body, parts[cut:])
    return False


def defines(body: list[ast.stmt], path: list[str]) -> bool:
    """Return whether `path` leads through these statements, such as a class and its member; an empty path does."""
    if not path:
        return True
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name == path[0]:
            return defines(node.body, path[1:])
        if isinstance(node, ast.ImportFrom) and any(path[0] in (a.asname, a.name) for a in node.names):
            return True
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == path[0] for target in targets):
            return True
    return False
