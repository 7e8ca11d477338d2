"""Mutation of valid inputs at random, and measurement of a parser on them: its exceptions, time and memory.

Inputs are valid samples with slices repeated, removed, replaced and wrapped. The repeats reveal more than linear
time or memory, for which no coverage guide is needed. A round has a seed, so a failure comes again.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

TOKENS = (
    b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\xf0\x9f\x98\x80", b"\xed\xa0\x80", b"\r\n", b"\n", b" ", b'"',
    b"'", b"\\",     b"\\u0000", b"\\ud800", b"{", b"}", b"[", b"]", b",", b":", b";", b"=", b"-", b"+", b".",
    b"/", b"%", b"&", b"#",     b"null", b"true", b"NaN", b"Infinity", b"1e999", b"-0", b"99999999999999999999",
    b"0.1", b"{}", b"[]", b'""', b"../",     b"\xe2\x80\xa8", b"\xc2\x85", b"<", b">", b"<!--", b"&amp;",
    b"a" * 100, b"9" * 5000, b"[" * 500,     b'{"a":' * 500,
)  # fmt: skip
_REPEATS = (0, 0, 0, 0, 0, 1, 1, 2, 3, 4, 6, 9, 12)
"""Powers of two: most inputs stay small, so that there are many; some grow to the largest size."""
_ROUNDS = 3
"""Times that a cost too high is measured once more: the collector, a cold cache or another thread had its turn."""


@dataclass(frozen=True)
class Target:
    """A parser, its allowed exceptions, and its limits.

    Attributes:
        corpus: valid inputs, or nearly so.
        run: parses one input.
        allowed: exceptions of refusals; any other is a fault.
        tokens: byte strings with a meaning to this parser, in addition to `TOKENS`.
        cpu_s: CPU seconds that any input may take, of the calling thread.
        cpu_s_per_mb: CPU seconds in addition, for each MB of input.
        memory: bytes that any input may take (peak of Python's allocations).
        memory_per_byte: bytes in addition, for each byte of input.
        largest: bytes of the largest input.
    """

    corpus: Sequence[bytes]
    run: Callable[[bytes], object]
    allowed: tuple[type[BaseException], ...]
    tokens: Sequence[bytes] = ()
    cpu_s: float = 0.15
    cpu_s_per_mb: float = 10.0
    memory: int = 2_000_000
    memory_per_byte: int = 100
    largest: int = 64 * 1024


class _Kind(IntEnum):
    INSERT = 0
    REMOVE = 1
    REPEAT = 2
    REPLACE = 3
    SPLICE = 4
    FLIP = 5
    WRAP = 6


Change = tuple[_Kind, int, int, int, int]


def _changes(target: Target) -> st.SearchStrategy[tuple[int, list[Change]]]:
    position = st.integers(0, 65535)
    tokens = st.integers(0, len(TOKENS) + len(target.tokens) - 1)
    change = st.tuples(st.sampled_from(_Kind), position, position, st.sampled_from(_REPEATS), tokens)
    return st.tuples(st.integers(0, len(target.corpus) - 1), st.lists(change, max_size=6))


def mutate(target: Target, sample: int, changes: Sequence[Change]) -> bytes:
    """Return a sample with these changes made one after the other."""
    tokens = (*target.tokens, *TOKENS)
    data = target.corpus[sample]
    for kind, first, second, times, number in changes:
        start, end = sorted((first % (len(data) + 1), second % (len(data) + 1)))
        token, piece = tokens[number], data[start:end]
        match kind:
            case _Kind.INSERT:
                data = data[:start] + token * 2**times + data[start:]
            case _Kind.REMOVE:
                data = data[:start] + data[end:]
            case _Kind.REPEAT:
                data = data[:start] + piece * min(2**times, target.largest // max(1, len(piece))) + data[end:]
            case _Kind.REPLACE:
                data = data[:start] + token + data[end:]
            case _Kind.SPLICE:
                other = target.corpus[number % len(target.corpus)]
                data = data[:start] + other[second % (len(other) + 1) :]
            case _Kind.FLIP:
                data = (
                    data[:start]
                    + bytes(byte ^ (1 << times % 8) for byte in data[start : start + 1])
                    + data[start + 1 :]
                )
            case _Kind.WRAP:
                data = (
                    data[:start] + token * 2**times + piece + tokens[second % len(tokens)] * 2**times + data[end:]
                )
        data = data[: target.largest]
    return data


def check(target: Target, data: bytes) -> None:
    """Parse one input.

    Raises:
        AssertionError: it took too much time or memory.
        BaseException: raised by the parser and not allowed.
    """
    limit = target.cpu_s + target.cpu_s_per_mb * len(data) / 1e6
    spent = _least(lambda: _cpu(target, data), limit)
    assert spent <= limit, f"{spent:.2f} s of CPU for {len(data)} bytes; {limit:.2f} are allowed"
    most = target.memory + target.memory_per_byte * len(data)
    peak = _least(lambda: _peak(target, data), most)
    assert peak <= most, f"{peak} bytes of memory for {len(data)}; {most} are allowed"


def _least(measure: Callable[[], float], limit: float) -> float:
    """Measure until a cost is within its limit, or often enough; return the least."""
    least = measure()
    for _ in range(_ROUNDS):
        if least <= limit:
            break
        least = min(least, measure())
    return least


def _cpu(target: Target, data: bytes) -> float:
    began = time.thread_time()
    _parse(target, data)
    return time.thread_time() - began


def _peak(target: Target, data: bytes) -> int:
    tracemalloc.start()
    try:
        _parse(target, data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _parse(target: Target, data: bytes) -> None:
    try:
        target.run(data)
    except target.allowed:
        return


def fuzz(target: Target, for_s: float, first_seed: int = 0, *, shrink: bool = False) -> int:
    """Check inputs for `for_s` seconds; return their number.

    Args:
        target: the parser.
        for_s: seconds.
        first_seed: the first round's; each further round has the next.
        shrink: look for a smaller input that fails, which takes minutes where time is the fault.

    Raises:
        AssertionError, BaseException: as `check`, for an input that a note shows.
    """
    count = 0
    for sample in target.corpus:  # imports and caches are no cost of an input
        _parse(target, sample)
        check(target, sample)
    end, round_ = time.monotonic() + for_s, first_seed
    while time.monotonic() < end:

        @seed(round_)
        @settings(
            max_examples=50,
            database=None,
            deadline=None,
            phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
            suppress_health_check=list(HealthCheck),
        )
        @given(_changes(target))
        def attempt(drawn: tuple[int, list[Change]]) -> None:
            nonlocal count
            if time.monotonic() > end:
                return
            count += 1
            data = mutate(target, *drawn)
            try:
                check(target, data)
            except BaseException as error:
                error.add_note(f"{len(data)} bytes: {data[:2000]!r}")
                raise

        attempt()
        round_ += 1
    return count
