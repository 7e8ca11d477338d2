"""The cache with a limit of bytes."""

from __future__ import annotations

from worker.byte_cache import ByteCache


def test_the_least_recently_used_values_go_first() -> None:
    """A value larger than the limit stays alone."""
    cache: ByteCache[str] = ByteCache(3)
    for key in "abc":
        cache.add(key, key.upper(), 1)
    cache.find("a")
    cache.add("d", "D", 1)
    assert cache.find("abcd") == {"a": "A", "c": "C", "d": "D"}
    cache.add("large", "L", 9)
    assert cache.find(["a", "large"]) == {"large": "L"}
    cache.clear()
    assert cache.find(["large"]) == {}
