"""Measures of how the code reads: `python -m scripts.style [PATH ...]` prints one table; `make style` runs it.

CONTRIBUTING.md states the goals. `tests/repo/test_style.py` holds the rules that have no exceptions.
"""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("jobs", "gateway", "worker", "gleaner", "alerts", "keda", "benchmarks", "scripts")
VAGUE_NAMES = frozenset(
    (
        "found",
        "told",
        "asked",
        "known",
        "kept",
        "given",
        "made",
        "held",
        "one",
        "each",
        "own",
        "others",
        "room",
        "place",
        "look",
    )
)
QUESTION_WORDS = frozenset(("What", "Whether", "How", "Where", "Who", "As", "One", "Whose", "Which", "Why", "When"))
FORBIDDEN_PHRASES = re.compile(
    r"\b(anew|for ever|told|so many|so much|of its own|of their own|in its middle|a document a line|one a core"
    r"|who waits|who wait)\b",
    re.IGNORECASE,
)
MAX_ARGUMENTS = 5
MAX_LINES = 400
MAX_MODULES = 15

Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Finding:
    """One place that breaks a rule.

    Attributes:
        path: the file.
        line: 1-based.
        rule: a short name of the rule.
        text: the offending name or words.
    """

    path: Path
    line: int
    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.text}"


@dataclass(frozen=True)
class Source:
    """A parsed file.

    Attributes:
        path: the file.
        tree: its syntax tree.
        comments: line and text of each comment.
        lines: the number of lines.
    """

    path: Path
    tree: ast.Module
    comments: tuple[tuple[int, str], ...]
    lines: int

    @classmethod
    def parse(cls, path: Path) -> Source:
        """Parse the Python file at `path`."""
        text = path.read_text()
        with path.open("rb") as file:
            comments = tuple(
                (token.start[0], token.string.lstrip("# "))
                for token in tokenize.tokenize(file.readline)
                if token.type == tokenize.COMMENT
            )
        return cls(path, ast.parse(text), comments, text.count("\n"))

    def functions(self) -> list[Function]:
        """Return all functions and methods."""
        return [node for node in ast.walk(self.tree) if isinstance(node, Function)]

    def docstrings(self) -> Iterator[tuple[Documented, int, str]]:
        """Yield each documented node with the line and text of its docstring."""
        for node in ast.walk(self.tree):
            if isinstance(node, Documented) and (text := ast.get_docstring(node)):
                yield node, node.body[0].lineno, text

    def prose(self) -> Iterator[tuple[int, str]]:
        """Yield line and text of every docstring, attribute docstring and comment."""
        for node in ast.walk(self.tree):
            match node:
                case ast.Expr(value=ast.Constant(value=str() as text)):
                    yield node.lineno, text
        yield from self.comments


def parse_all(paths: list[Path]) -> list[Source]:
    """Parse the Python files below `paths`."""
    files = {file for path in paths for file in (path.rglob("*.py") if path.is_dir() else [path])}
    return [Source.parse(file) for file in sorted(files)]


def bindings(source: Source) -> Iterator[tuple[int, str]]:
    """Yield line and name of every argument, variable, attribute, function and class that the file defines."""
    for node in ast.walk(source.tree):
        match node:
            case ast.arg():
                yield node.lineno, node.arg
            case ast.Name(ctx=ast.Store()):
                yield node.lineno, node.id
            case ast.Attribute(ctx=ast.Store()):
                yield node.lineno, node.attr
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.lineno, node.name


def is_one_word(function: Function) -> bool:
    """Return whether the name, without leading underscores, is a single word; dunder methods are not counted."""
    return "_" not in function.name.strip("_")


def is_dunder(function: Function) -> bool:
    """Return whether Python chose the name."""
    return function.name.startswith("__") and function.name.endswith("__")


def argument_count(function: Function) -> int:
    """Return the number of arguments besides `self` and `cls`."""
    arguments = function.args
    names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


def find_vague_names(sources: list[Source]) -> list[Finding]:
    """Find bare participles and pronouns used as names."""
    return [
        Finding(source.path, line, "vague name", name)
        for source in sources
        for line, name in bindings(source)
        if name.strip("_") in VAGUE_NAMES
    ]


def find_question_docstrings(sources: list[Source]) -> list[Finding]:
    """Find docstrings that begin with a question word instead of a verb."""
    return [
        Finding(source.path, line, "docstring begins with", text.split()[0])
        for source in sources
        for node, line, text in source.docstrings()
        if isinstance(node, Function) and text.split()[0].strip(",:") in QUESTION_WORDS
    ]


def find_forbidden_phrases(sources: list[Source]) -> list[Finding]:
    """Find words in docstrings and comments that are not plain English."""
    return [
        Finding(source.path, line + text[: match.start()].count("\n"), "forbidden phrase", match[0])
        for source in sources
        for line, text in source.prose()
        for match in FORBIDDEN_PHRASES.finditer(text)
    ]


def find_duplicate_classes(sources: list[Source], root: Path = ROOT) -> list[Finding]:
    """Find class names that are defined more than once in one top-level package."""
    places: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for source in sources:
        package = source.path.relative_to(root).parts[0]
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ClassDef):
                places[package, node.name].append(
                    Finding(source.path, node.lineno, "class defined twice", node.name)
                )
    return [finding for findings in places.values() if len(findings) > 1 for finding in findings]


def count_modules(sources: list[Source]) -> Counter[Path]:
    """Count the modules of each folder."""
    return Counter(source.path.parent for source in sources if source.path.name != "__init__.py")


def measure(paths: list[Path]) -> dict[str, str]:
    """Return the measures as the names and values of a table's rows."""
    sources = parse_all(paths)
    functions = [function for source in sources for function in source.functions()]
    named = [function for function in functions if not is_dunder(function)]
    lengths = sorted((function.end_lineno or 0) - function.lineno + 1 for function in functions)
    words = [
        word.lower() for source in sources for _, text in source.prose() for word in re.findall(r"[\w']+", text)
    ]
    documented = [node for source in sources for node, _, _ in source.docstrings() if isinstance(node, Function)]
    total = sum(1 for source in sources for _ in bindings(source))
    lines = sum(source.lines for source in sources)
    folder, modules = count_modules(sources).most_common(1)[0]
    long = [source for source in sources if source.lines > MAX_LINES]
    wide = [function for function in functions if argument_count(function) > MAX_ARGUMENTS]
    mood = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--select", "D401", "--output-format", "concise", *map(str, paths)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return {
        "functions whose name is one word": f"{100 * sum(map(is_one_word, named)) / len(named):.0f} %",
        "vague names per 1,000 bindings": f"{1000 * len(find_vague_names(sources)) / total:.1f}",
        "docstrings that begin with a question word": (
            f"{100 * len(find_question_docstrings(sources)) / len(documented):.1f} %"
        ),
        "docstrings not in the imperative (D401)": str(mood.stdout.count(" D401 ")),
        '"what" per 10,000 words of prose': f"{10_000 * words.count('what') / len(words):.0f}",
        "forbidden phrases": str(len(find_forbidden_phrases(sources))),
        "class names defined twice in a package": str(
            len(
                {
                    (finding.path.relative_to(ROOT).parts[0], finding.text)
                    for finding in find_duplicate_classes(sources)
                }
            )
        ),
        "modules in the largest folder": f"{modules} ({folder.relative_to(ROOT)})",
        f"functions with more than {MAX_ARGUMENTS} arguments": f"{100 * len(wide) / len(functions):.1f} %",
        "comments per 100 lines": f"{100 * sum(len(s.comments) for s in sources) / lines:.1f}",
        "function length, median / p90": f"{statistics.median(lengths):.0f} / {lengths[len(lengths) * 9 // 10]}",
        f"files over {MAX_LINES} lines": str(len(long)),
        "lines in gateway, worker, jobs, gleaner": str(
            sum(s.lines for s in sources if s.path.relative_to(ROOT).parts[0] in PACKAGES[:4])
        ),
    }


def main() -> None:
    """Print the table; with `--list`, every finding instead."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--list"]
    paths = [Path(argument).resolve() for argument in arguments] or [ROOT / package for package in PACKAGES]
    if "--list" in sys.argv:
        sources = parse_all(paths)
        for find in (find_vague_names, find_question_docstrings, find_forbidden_phrases, find_duplicate_classes):
            print("\n".join(map(str, find(sources))))
        return
    for name, value in measure(paths).items():
        print(f"{name:<48} {value:>12}")


if __name__ == "__main__":
    main()
