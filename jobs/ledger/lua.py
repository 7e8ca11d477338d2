"""Loads the Lua scripts of this package: each is its own file, the shared part put in behind its first line."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Script:
    """A script as sent to the server. Its SHA-1 names it, so another version of the code has other names."""

    source: str
    sha: str


@cache
def load(name: str) -> Script:
    """The script `lua/<name>.lua`, its `#!lua` line kept first as the server wants it."""
    folder = files(__package__) / "lua"
    shebang, _, body = (folder / f"{name}.lua").read_text("utf-8").partition("\n")
    library = (folder / "_lib.lua").read_text("utf-8")
    source = "\n".join((shebang, library, body))
    return Script(source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())
