"""A tokenizer.json is read as data: no pattern may run away on a text, no replacement make it explode."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.model.errors import ModelBrokenError

MAX_PATTERN = 4_000
"""Characters. o200k's, the longest in use, has some 400."""
MAX_OPEN_ENDED = 3
"""Quantifiers without an end in one alternative; each multiplies the work on a long word by its length."""
MAX_GROWTH = 64
"""Characters that one may become by all replacements together."""
MAX_DEPTH = 32
MAX_PADDING = 100_000
_LOOKAROUND = re.compile(r"\(\?<?[=!](\[[^\]]*\]|[^()\[\]])*\)")
_OPEN = re.compile(r"[\\.\[*?{|(]")
"""What makes a pattern match more than its own letters, or nothing at all."""
_PARTS = ("normalizer", "pre_tokenizer", "post_processor")


def check(path: Path, content: Mapping[str, Any]) -> None:
    """Check what works on texts: patterns, replacements, padding.

    Raises:
        ModelBrokenError: a pattern may take exponential time, or replacements or padding grow a text too far.
    """
    for part in _objects(path, [content.get(name) for name in _PARTS]):
        pattern = part.get("pattern")
        expression = pattern.get("Regex") if isinstance(pattern, dict) else None
        if isinstance(expression, str):
            reason = runaway(expression)
            if reason:
                raise ModelBrokenError(f"{path}: the pattern {expression[:80]!r} {reason}; it is not supported.")
        if len(str(part.get("prepend", ""))) > MAX_GROWTH:
            raise ModelBrokenError(f"{path}: prepends more than {MAX_GROWTH} characters to a word.")
    if growth(_replacements(content.get("normalizer"))) > MAX_GROWTH:
        raise ModelBrokenError(f"{path}: its replacements may make a text more than {MAX_GROWTH} times longer.")
    strategy = (content.get("padding") or {}).get("strategy") if isinstance(content.get("padding"), dict) else None
    fixed = strategy.get("Fixed") if isinstance(strategy, dict) else None
    if fixed is not None and not (type(fixed) is int and 0 <= fixed <= MAX_PADDING):
        raise ModelBrokenError(f"{path}: pads every row to {fixed}; at most {MAX_PADDING:,} are supported.")


def runaway(expression: str) -> str:
    """Return the reason why a regular expression may take exponential time; "" if it cannot.

    A repeated group whose end is open can match one text in exponentially many ways, and a chain of open-ended
    quantifiers in a number of ways that grows with a power of its length. The patterns of published tokenizers
    have neither.
    """
    if len(expression) > MAX_PATTERN:
        return f"has more than {MAX_PATTERN:,} characters"
    open_ended, at, end = 0, 0, len(expression)
    while at < end:
        character = expression[at]
        if character == "\\":
            at += 2
        elif character == "[":
            at = _class_end(expression, at)
        else:
            at += 1
        if character == "|":
            open_ended = 0
        if character in "*+?{|(":
            continue
        if _open_ended(expression, at):
            if character == ")":
                return "repeats a group without an end"
            open_ended += 1
            if open_ended > MAX_OPEN_ENDED:
                return f"has more than {MAX_OPEN_ENDED} open-ended repetitions in a row"
    return ""


def _class_end(expression: str, at: int) -> int:
    """Return the place after a character class that begins at `at`; classes may be nested."""
    depth, start = 0, at
    while at < len(expression):
        character = expression[at]
        if character == "\\":
            at += 2
            continue
        first = at - start == 1 or (at - start == 2 and expression[at - 1] == "^")
        if character == "[":
            depth += 1
        elif character == "]" and not first:
            depth -= 1
            if depth == 0:
                return at + 1
        at += 1
    return at


def _open_ended(expression: str, at: int) -> bool:
    """Return whether the quantifier at this place, if there is one, has no end, or one that is far away."""
    if expression[at : at + 1] in ("*", "+"):
        return True
    if expression[at : at + 1] != "{":
        return False
    inside, closed, _ = expression[at + 1 :].partition("}")
    least, comma, most = inside.partition(",")
    if not closed or not (least or most).isdigit():
        return False
    return bool(comma and not most) or max(int(number) for number in (least, most) if number.isdigit()) > 100


@dataclass(frozen=True, slots=True)
class Replacement:
    """One replacement of a normalizer.

    Attributes:
        content: what it puts in.
        touches: characters it may replace; None: any.
        factor: characters that one may become.
    """

    content: str
    touches: frozenset[str] | None
    factor: int


def growth(steps: Sequence[Replacement]) -> int:
    """Return the most characters that one may become by these steps, one after the other.

    A step multiplies what an earlier one put in only if it touches that; a table of letters does not.
    """
    totals: list[int] = []
    for i, step in enumerate(steps):
        fed = [
            total
            for earlier, total in zip(steps[:i], totals, strict=True)
            if step.touches is None or step.touches & set(earlier.content)
        ]
        totals.append(min(step.factor * max(fed, default=1), MAX_GROWTH + 1))
    return max(totals, default=1)


def _replacements(normalizer: Any) -> list[Replacement]:
    """Return a normalizer's replacements in their order."""
    if not isinstance(normalizer, dict):
        return []
    parts = normalizer.get("normalizers")
    if isinstance(parts, list):
        return [step for part in parts for step in _replacements(part)]
    if normalizer.get("type") != "Replace":
        return []
    pattern, content = normalizer.get("pattern"), str(normalizer.get("content", ""))
    text = pattern.get("String") if isinstance(pattern, dict) else pattern
    if isinstance(text, str) and text:
        return [Replacement(content, frozenset(text), -(-len(content) // len(text)) or 1)]
    expression = str(pattern.get("Regex", "")) if isinstance(pattern, dict) else ""
    rest = _LOOKAROUND.sub("", expression)
    touches = frozenset(rest) if rest and not _OPEN.search(rest) else None
    return [Replacement(content, touches, len(content) + (touches is None) or 1)]


def _objects(path: Path, content: object) -> Iterator[dict[str, Any]]:
    rest: list[tuple[Any, int]] = [(content, 0)]
    while rest:
        value, depth = rest.pop()
        if depth > MAX_DEPTH:
            raise ModelBrokenError(f"{path}: nested more than {MAX_DEPTH} deep.")
        if isinstance(value, dict):
            yield value
            rest += [(item, depth + 1) for item in value.values()]
        elif isinstance(value, list):
            rest += [(item, depth + 1) for item in value]
