"""Pages -> the programs that their commands start: bash runs them; kubectl, helm and others note the arguments."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

from docs.site import SOURCES

ROOT = Path(__file__).parents[3]
PAGES = {str(page.relative_to(ROOT)): page for pattern in SOURCES for page in sorted(ROOT.glob(pattern))}
OPERATIONS = re.compile(
    r"docs/runbooks/|docs/how-to/(deployment|disaster|upgrades|scaling|gpu|monitoring|escalation)"
    r"|docs/explanation/security|keda/|charts/|deploy/"
)
"""Pages whose sentences contain commands, too."""
INLINE = re.compile(r"`((?:kubectl|helm|gleaner|docker|deploy/\S+\.sh) [^`]+)`")
UNTRIED = re.compile(r"# not tried: \S.*$")
NOTED = (
    "amtool", "cmctl", "cosign", "curl", "docker", "gleaner", "grep", "helm", "jq", "kubectl", "pip", "python",
    "sudo",
)  # fmt: skip
NOTE = """#!/bin/sh
printf '%s\\0' "$#" "${0##*/}" "$@" >> "$CALLS"
"""
END = """printf 'end\\0' >> "$CALLS"
"""
PRELUDE = """
command_not_found_handle() { printf '%s\\0' "$#" 'not found' "$@" >> "$CALLS"; }
set -E
trap 'printf "%s\\0" 1 failed "$BASH_COMMAND" >> "$CALLS"' ERR
"""


@dataclass(frozen=True, slots=True)
class Call:
    """A program that a page's commands start, with its arguments."""

    program: str
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join((self.program, *self.arguments))


def list_commands(page: Path) -> list[str]:
    """Return the shell code that no test of examples runs: blocks that belong elsewhere, and commands in sentences.

    A block belongs elsewhere if its fence has a title, if it is inside a list, or in a runbook. Lines marked as not
    tried are left out.
    """
    text = page.read_text(encoding="utf-8")
    codes = [
        token.content
        for token in MarkdownIt().parse(text)
        if token.type == "fence"
        and token.info.split()[:1] == ["sh"]
        and (token.level or " " in token.info.strip() or "runbooks" in page.parts)
    ]
    if OPERATIONS.match(str(page.relative_to(ROOT))):
        prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
        codes += [re.sub(r"\s+", " ", code) for code in INLINE.findall(prose)]
    return [_leave_out_untried(code) for code in codes]


def _leave_out_untried(code: str) -> str:
    lines = code.replace("\\\n", " ").splitlines()
    return "\n".join("" if UNTRIED.search(line) else line for line in lines)


def record_calls(codes: list[str], workplace: Path) -> list[Call]:
    """Run code with bash in a folder that looks like the repository; return the calls.

    `not found` stands for a program that no machine has, `failed` for a command of the shell itself that failed.

    Raises:
        ValueError: the code is no shell code.
    """
    prepare_workplace(workplace)
    calls = workplace / "calls"
    calls.write_text("")
    environment = {"PATH": f"{workplace / 'programs'}:/usr/bin:/bin", "CALLS": str(calls), "HOME": str(workplace)}
    code = PRELUDE + "\n".join(f"(\n:\n{code}\n)" for code in codes) + "\n" + END
    subprocess.run(
        ["bash", "-c", code], cwd=workplace, env=environment, capture_output=True, check=False, timeout=60,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    fields = calls.read_text().removesuffix("end\0").split("\0")
    if not calls.read_text().endswith("end\0"):
        raise ValueError(f"bash does not read the code: {codes}")
    recorded, at = [], 0
    while at < len(fields) - 1:
        end = at + 2 + int(fields[at])
        recorded.append(Call(fields[at + 1], tuple(fields[at + 2 : end])))
        at = end
    return recorded


def prepare_workplace(workplace: Path) -> None:
    """Fill an empty folder with the programs and what commands read: our scripts, and results of earlier steps."""
    if (workplace / "programs").exists():
        return
    shutil.copytree(ROOT / "deploy", workplace / "deploy")
    (workplace / "charts").symlink_to(ROOT / "charts")
    (workplace / "programs").mkdir()
    # keys.sh needs answers of a cluster; its own test runs it.
    for program in (*(workplace / "programs" / name for name in NOTED), workplace / "deploy" / "keys.sh"):
        program.write_text(NOTE)
        program.chmod(0o755)
    (workplace / ".venv" / "bin").mkdir(parents=True)
    (workplace / ".venv" / "bin" / "gleaner").symlink_to(workplace / "programs" / "gleaner")
    images = ("GATEWAY", "WORKER", "WORKER_CUDA")
    digests = (f"{image}=REGISTRY/gleaner@sha256:{'0' * 64}\n" for image in images)
    (workplace / "digests.env").write_text("".join(digests))
