"""A splitter's name becomes what cuts a text into words: the model's own splitter, or the one that was set for it.

What needs a package that is not installed is refused with a sentence, before any weights are fetched.
"""

from __future__ import annotations

import importlib.util
import re
import threading
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any

from worker.model.errors import ExtraMissingError, ModelBrokenError
from worker.protocols import Words
from worker.text.words import by_gaps, by_pattern
from worker.text.written import JOINERS, Split, join_marks

WORD = r"\w+(?:[-_]\w+)*|\S"
"""What is a word to gliner's splitter `whitespace`."""
LONGEST_RUN = 4096
"""Characters without a blank; a text with more is cut as by `whitespace`. spaCy takes such a run apart a character
at a time, each with a copy of the rest, and cannot be interrupted."""
LONGEST_SPACY = 2**31 - 1
"""Characters that spaCy may cut; its own limit, a million, is for parsers."""


class Splitter(StrEnum):
    """Settings of the splitter; `MODEL` is the one that the model was trained with."""

    MODEL = "model"
    WHITESPACE = "whitespace"
    SPACY = "spacy"
    CHAR = "char"


_PACKAGES: dict[str, tuple[str, ...]] = {
    "spacy": ("spacy",),
    "mecab": ("mecab",),
    "jieba": ("jieba", "jieba3"),  # gliner looks for the one and imports the other
    "janome": ("janome",),
    "camel": ("camel_tools",),
    "hindi": ("indicnlp",),
    "universal": ("langdetect", "mecab", "janome", "indicnlp", "jieba", "jieba3", "camel_tools", "spacy"),
}
"""Modules that gliner's splitters import."""
_INSTALLED_AS = {
    "spacy": "gleaner-ner[spacy]",
    "mecab": "python-mecab-ko",
    "camel_tools": "camel-tools",
    "indicnlp": "indic-nlp-library",
}
_INSTEAD = (
    "set GLEANER_WORD_SPLITTER=whitespace, or char for Chinese, Japanese, Thai and other scripts without blanks"
)


def choose(source: object, configured: object, wanted: str = Splitter.MODEL) -> str:
    """Return the splitter that a model is read with.

    Args:
        source: the model, for messages.
        configured: `words_splitter_type` of its configuration; None where it has none.
        wanted: what is set; `model`: the configured one.

    Raises:
        ExtraMissingError: it needs a package that is not installed.
        ModelBrokenError: it fetches models while it runs.
    """
    name = str(configured or Splitter.WHITESPACE) if wanted == Splitter.MODEL else wanted
    if name == "stanza":
        raise ModelBrokenError(
            f"{source}: its splitter, stanza, downloads a model for each language while it runs, which a worker "
            f"does not allow. Instead, {_INSTEAD}."
        )
    missing = [module for module in _PACKAGES.get(name, ()) if importlib.util.find_spec(module) is None]
    if missing:
        install = " ".join(f"'{_INSTALLED_AS.get(module, module)}'" for module in missing)
        raise ExtraMissingError(f"{source}: its splitter, {name}, needs `pip install {install}`. Or {_INSTEAD}.")
    return name


def make(name: str, word: str = "") -> Split:
    """Return what cuts texts into words that keep their marks; safe to call from many threads at once.

    Args:
        name: the splitter.
        word: a regular expression for words, without groups, where that is all there is to it.

    Raises:
        ExtraMissingError, ModelBrokenError: as `choose`.
    """
    if word:
        return join_marks(by_pattern(word))
    choose("the model", name)
    if name == Splitter.CHAR:
        return by_characters()
    return join_marks(_by_call(_by_spacy() if name == Splitter.SPACY else _by_gliner(name)))


def by_characters() -> Split:
    """Return a splitter for which each written character of a script without blanks is a word.

    These are Han, kana and bopomofo, Yi, and Thai, Lao, Khmer, Burmese and their relatives. Everything else is cut
    as by `whitespace`. A word is made of whole graphemes: marks, vowel signs, subscript consonants and the parts of
    an emoji stay together.
    """
    import regex  # only this splitter needs Unicode's scripts and graphemes

    scripts = "Han Hiragana Katakana Bopomofo Yi Thai Lao Khmer Myanmar Tai_Le New_Tai_Lue Tai_Tham Tai_Viet "
    scripts += "Javanese Balinese"
    unspaced = "".join(rf"\p{{{script}}}" for script in scripts.split())
    character = rf"[[{unspaced}]&&[\p{{L}}\p{{N}}]--\p{{Nd}}]||[\u3006\u3031-\u3035\u303c\u30fc\uff70]"
    subscript = "\u17d2\u1039\u1a60\u1b44\ua9c0"  # the consonant that follows is written below
    written = r"\X(?:(?=\p{M})\X)*+"  # Burmese vowels are marks, but graphemes by themselves
    letter = rf"(?=[[\p{{L}}\p{{N}}_]--[{character}]]){written}"
    joiners = "".join(sorted(JOINERS))
    letters = rf"(?:{letter}(?:[{joiners}]++{letter})*+)++"
    cut = regex.compile(
        rf"((?=[{character}]){written}(?:(?<=[{subscript}]\u200d?)(?=[{character}]){written})*+"
        rf"|{letters}(?:(?=[-_])\X{letters})*+"
        rf"|(?![\s\p{{M}}{joiners}]){written})",
        regex.V1,
    ).split
    plain = by_pattern(WORD)
    by_regex = by_gaps(cut)
    return lambda text: plain(text) if text.isascii() else by_regex(text)


def _by_call(splitter: Callable[[str], Iterable[tuple[int, int]]]) -> Split:
    lock = threading.Lock()  # these make no promise about threads

    def split(text: str) -> Words:
        with lock:
            places = list(splitter(text))
        words = [text[start:end] for start, end in places]
        return Words(words, [start for start, _ in places], [end for _, end in places])

    return split


def _by_spacy() -> Callable[[str], Iterable[tuple[int, int]]]:
    """Return gliner's splitter `spacy` without gliner, and without keeping every word that it ever sees."""
    import spacy

    nlp: Any = spacy.blank("en")
    nlp.max_length = LONGEST_SPACY

    def split(text: str) -> list[tuple[int, int]]:
        if any(len(run) > LONGEST_RUN for run in text.split()):
            return [match.span() for match in re.finditer(WORD, text)]
        with nlp.memory_zone():
            return [(token.idx, token.idx + len(token)) for token in nlp.make_doc(text)]

    return split


def _by_gliner(name: str) -> Callable[[str], Iterable[tuple[int, int]]]:
    from worker.model import gliner_loader  # seconds to import; only models of some languages need it

    splitter = gliner_loader.load_splitter(name)
    return lambda text: [(start, end) for _, start, end in splitter(text)]
