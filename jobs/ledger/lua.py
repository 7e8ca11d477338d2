"""Loads the Lua scripts of this package and inserts the shared library after the first line of each."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Script:
    """A script as sent to Redis, which identifies it by its SHA-1: each version of the code has its own."""

    source: str
    sha: str


@cache
def load(name: str) -> Script:
    """Load the script `lua/<name>.lua`; its `#!lua` line stays first, as Redis requires."""
    folder = files(__package__) / "lua"
    shebang, _, body = (folder / f"{name}.lua").read_text("utf-8").partition("\n")
    library = (folder / "_lib.lua").read_text("utf-8")
    source = "\n".join((shebang, library, body))
    return Script(source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())
