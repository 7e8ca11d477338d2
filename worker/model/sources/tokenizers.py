"""Checks of a tokenizer.json, read as data: no pattern may take exponential time, no replacement much memory."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.model.errors import ModelBrokenError

MAX_PATTERN = 4_000
"""Most characters of a pattern. o200k's, the longest in use, has some 400."""
MAX_UNBOUNDED = 3
"""Most unbounded quantifiers in one alternative; each multiplies the work on a long word by its length."""
MAX_GROWTH = 64
"""Most characters that one character may become by all replacements."""
MAX_DEPTH = 32
MAX_PADDING = 100_000
_LOOKAROUND = re.compile(r"\(\?<?[=!](\[[^\]]*\]|[^()\[\]])*\)")
_OPEN = re.compile(r"[\\.\[*?{|(]")
"""Characters that make a pattern match more than its own letters, or the empty string."""
_PARTS = ("normalizer", "pre_tokenizer", "post_processor")


def check_tokenizer(path: Path, content: Mapping[str, Any]) -> None:
    """Check everything that is applied to texts: patterns, replacements, padding.

    Raises:
        ModelBrokenError: a pattern may take exponential time, or replacements or padding grow a text too far.
    """
    for part in _iter_objects(path, [content.get(name) for name in _PARTS]):
        pattern = part.get("pattern")
        expression = pattern.get("Regex") if isinstance(pattern, dict) else None
        if isinstance(expression, str):
            reason = runaway_reason(expression)
            if reason:
                raise ModelBrokenError(f"{path}: the pattern {expression[:80]!r} {reason}; it is not supported.")
        if len(str(part.get("prepend", ""))) > MAX_GROWTH:
            raise ModelBrokenError(f"{path}: prepends more than {MAX_GROWTH} characters to a word.")
    if max_growth(_read_replacements(content.get("normalizer"))) > MAX_GROWTH:
        raise ModelBrokenError(
            f"{path}: its replacements may make a text more than {MAX_GROWTH} times longer; that is not supported."
        )
    strategy = (content.get("padding") or {}).get("strategy") if isinstance(content.get("padding"), dict) else None
    fixed = strategy.get("Fixed") if isinstance(strategy, dict) else None
    if fixed is not None and not (type(fixed) is int and 0 <= fixed <= MAX_PADDING):
        raise ModelBrokenError(f"{path}: pads every row to {fixed}; at most {MAX_PADDING:,} are supported.")


def runaway_reason(expression: str) -> str:
    """Return the reason for which a regular expression may take exponential time; "" if it cannot.

    An unbounded repetition of a group can match one text in exponentially many ways, and a chain of unbounded
    quantifiers in a number of ways that grows with a power of its length. The patterns of published tokenizers
    have neither.
    """
    if len(expression) > MAX_PATTERN:
        return f"has more than {MAX_PATTERN:,} characters"
    unbounded, at, end = 0, 0, len(expression)
    while at < end:
        character = expression[at]
        if character == "\\":
            at += 2
        elif character == "[":
            at = _find_class_end(expression, at)
        else:
            at += 1
        if character == "|":
            unbounded = 0
        if character in "*+?{|(":
            continue
        if _is_unbounded(expression, at):
            if character == ")":
                return "repeats a group without a bound"
            unbounded += 1
            if unbounded > MAX_UNBOUNDED:
                return f"has more than {MAX_UNBOUNDED} unbounded repetitions in a row"
    return ""


def _find_class_end(expression: str, at: int) -> int:
    """Return the index after a character class that begins at `at`; classes may be nested."""
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


def _is_unbounded(expression: str, at: int) -> bool:
    """Return whether there is a quantifier at this index without an upper bound, or with one above 100."""
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
        content: the text it inserts.
        touches: characters it may replace; None: any.
        factor: most characters that one character may become.
    """

    content: str
    touches: frozenset[str] | None
    factor: int


def max_growth(steps: Sequence[Replacement]) -> int:
    """Return the most characters that one character may become by these steps in sequence.

    A step multiplies the text inserted by an earlier one only if it touches it; a table of letters does not.
    """
    totals: list[int] = []
    for i, step in enumerate(steps):
        inputs = [
            total
            for earlier, total in zip(steps[:i], totals, strict=True)
            if step.touches is None or step.touches & set(earlier.content)
        ]
        totals.append(min(step.factor * max(inputs, default=1), MAX_GROWTH + 1))
    return max(totals, default=1)


def _read_replacements(normalizer: Any) -> list[Replacement]:
    """Return a normalizer's replacements in order."""
    if not isinstance(normalizer, dict):
        return []
    parts = normalizer.get("normalizers")
    if isinstance(parts, list):
        return [step for part in parts for step in _read_replacements(part)]
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


def _iter_objects(path: Path, content: object) -> Iterator[dict[str, Any]]:
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
