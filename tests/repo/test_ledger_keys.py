"""The table of keys in docs/explanation/ledger.md names the keys that the ledger's code uses, and no others."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tests.conftest import ROOT

LUA_KEY = re.compile(r"\bkey\(\s*'([^']+)'")
LUA_NAMES = re.compile(r"for _, \w+ in ipairs\(\{((?:'\w+:', )*'\w+:')\}\)")
PYTHON_KEY = re.compile(r'\{PREFIX\}([^"]+)"')
TABLE_HEAD = "| key | type | lifetime | holds |"


def name_prefix(key: str) -> str:
    """Return a key up to its first variable part: `job:<id>` -> `job:`, `sys` -> `sys`."""
    name, colon, _ = key.partition(":")
    return name + colon


def find_used(lua: Iterable[str], python: str) -> set[str]:
    """Return the prefixes of the keys in scripts and in the ledger's store."""
    keys: list[str] = PYTHON_KEY.findall(python)
    for script in lua:
        keys += LUA_KEY.findall(script)
        keys += (name.strip(" '") for names in LUA_NAMES.findall(script) for name in names.split(","))
    return set(map(name_prefix, keys))


def find_documented(page: str) -> set[str]:
    """Return the prefixes in the first column of the page's table of keys."""
    rows = page.partition(TABLE_HEAD)[2].partition("\n\n")[0].splitlines()[2:]
    return {name_prefix(key) for row in rows for key in re.findall("`([^`]+)`", row.split("|")[1])}


def test_keys_are_found_in_a_sample() -> None:
    """Every way in which code and page write a key is read."""
    lua = [
        "redis.call('GET', key('a:' .. id), key( 'b:{' .. name .. '}'), key('c'))",
        "for _, name in ipairs({'d:', 'e:'}) do redis.call('DEL', key(name .. id)) end",
    ]
    assert find_used(lua, 'A = f"{PREFIX}f:{job}"\nB = f"{PREFIX}g"\n') == {"a:", "b:", "c", "d:", "e:", "f:", "g"}
    page = f"{TABLE_HEAD}\n|---|---|---|---|\n| `a:<id>`, `b` | set | | `c:` |\n\n| `d` | | | |\n"
    assert find_documented(page) == {"a:", "b"}


def test_every_key_of_the_ledger_is_documented() -> None:
    """A new key needs its row, and a row without a key is dropped."""
    ledger = ROOT / "jobs/ledger"
    used = find_used(
        (script.read_text() for script in sorted((ledger / "lua").glob("*.lua"))), (ledger / "store.py").read_text()
    )
    documented = find_documented((ROOT / "docs/explanation/ledger.md").read_text())
    assert sorted(used - documented) == []
    assert sorted(documented - used) == []
    assert len(used) > 50
