"""Keeps combining marks and joiners together with the letters that they are written on. Pure.

For a splitter only letters and digits are parts of words. It cuts a decomposed accent, a vowel sign or a joiner off
its word, and the word in two; half of a name is then neither recognised nor redacted.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections.abc import Callable, Mapping

from worker.protocols import Words

Split = Callable[[str], Words]

JOINERS = frozenset("\u00ad\u200c\u200d\u2060\ufeff")
"""Invisible characters inside of words: soft hyphen, (non-)joiner, word joiner, no-break space of no width."""
_MAYBE = re.compile("[\u00ad\u0300-\U0010ffff]")
"""A fast test: characters that may be marks or joiners, none of which occurs in texts of Western Europe."""
_CONTROLS = frozenset(map(chr, (*range(9), *range(0x0E, 0x1C), 0x7F)))
INVISIBLE = JOINERS | _CONTROLS | {"\u200b"}
"""Spaces of no width and the control characters of broken PDFs as well: they end a word for the model, but not for
the eye."""
_UNSPACED = ("THAI ", "LAO ", "KHMER ", "MYANMAR ", "TIBETAN ", "TAI ", "NEW TAI ", "JAVANESE ", "BALINESE ")
"""Scripts without blanks between words: a letter after a mark may begin another word."""
_UNSPACED_LETTERS = (*_UNSPACED, "CJK ", "HIRAGANA ", "KATAKANA ", "HALFWIDTH KATAKANA ", "BOPOMOFO ", "YI ")


def join_marks(split: Split) -> Split:
    """Return a splitter whose words keep their combining marks and joiners, so that both ways to write é are equal.

    Texts without such characters are split as before.
    """

    def split_text(text: str) -> Words:
        if text.isascii() or not _MAYBE.search(text) or not (marks := _replace_marks(text)):
            return split(text)
        shadow = split(text.translate({ord(mark): shown for mark, shown in marks.items()}))
        if not shadow.words:
            return split(text)
        shown_at = [at for at, character in enumerate(text) if marks.get(character, character)]
        starts, ends = array("i"), array("i")
        for first, last in zip(shadow.starts, shadow.ends, strict=True):
            starts.append(shown_at[first])
            ends.append(_find_marks_end(text, shown_at[last - 1] + 1, marks))
        return Words([text[start:end] for start, end in zip(starts, ends, strict=True)], starts, ends)

    return split_text


def has_marks(text: str) -> bool:
    """Return whether a text has combining marks."""
    return not text.isascii() and _MAYBE.search(text) is not None and any(map(is_mark, set(text)))


def is_mark(character: str) -> bool:
    """Return whether a character is written on the one before it: an accent, a vowel sign, a variation selector."""
    return character > "\u02ff" and unicodedata.category(character)[0] == "M"


def continues_word(text: str, at: int) -> bool:
    """Return whether the character at `at` (from 1) belongs to the same written word as the one before it."""
    before, character = text[at - 1], text[at]
    if before.isspace() or character.isspace():
        return False
    if is_mark(character):
        return True
    if character in INVISIBLE:
        return before.isalnum() or is_mark(before) or before in INVISIBLE
    if not character.isalnum() or is_unspaced(character):
        return False
    return before in INVISIBLE or ((before.isalnum() or is_mark(before)) and not is_unspaced(before))


def _replace_marks(text: str) -> Mapping[str, str]:
    """Return the text's marks and joiners with the replacement that the splitter sees: nothing, or a blank."""
    return {
        character: " " if unicodedata.name(character, "").startswith(_UNSPACED) else ""
        for character in set(text)
        if character in JOINERS or is_mark(character)
    }


def _find_marks_end(text: str, end: int, marks: Mapping[str, str]) -> int:
    last = end
    while last < len(text) and text[last] in marks:
        last += 1
    while last > end and text[last - 1] in JOINERS:  # nothing follows that they would join
        last -= 1
    return last


def is_unspaced(letter: str) -> bool:
    """Return whether a letter is of a script without blanks between words."""
    return letter > "\u0dff" and unicodedata.name(letter, "").startswith(_UNSPACED_LETTERS)
