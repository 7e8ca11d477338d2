"""Makes the function that splits texts into words: the model's splitter, or the one that was configured.

A splitter that needs a package that is not installed is refused before any weights are fetched.
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
from worker.text.combining_marks import JOINERS, Split, join_marks
from worker.text.words import make_gap_splitter, make_pattern_splitter

WORD = r"\w+(?:[-_]\w+)*|\S"
"""A word of gliner's splitter `whitespace`."""
MAX_RUN = 4096
"""Characters without a blank; a text with more is split as by `whitespace`. spaCy takes such a run apart one
character at a time, each with a copy of the rest, and cannot be interrupted."""
MAX_SPACY = 2**31 - 1
"""Characters that spaCy may split; its default limit, a million, is for parsers."""


class Splitter(StrEnum):
    """Settings of the splitter; `MODEL` is the one that the model was trained with."""

    MODEL = "model"
    WHITESPACE = "whitespace"
    SPACY = "spacy"
    CHAR = "char"


_PACKAGES: dict[str, tuple[str, ...]] = {
    "spacy": ("spacy",),
    "mecab": ("mecab",),
    "jieba": ("jieba", "jieba3"),  # gliner looks for the first and imports the second
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


def choose_splitter(source: object, configured: object, wanted: str = Splitter.MODEL) -> str:
    """Return the name of the splitter for a model.

    Args:
        source: the model, for messages.
        configured: `words_splitter_type` of its configuration; None if it has none.
        wanted: setting of the worker; `model`: the configured one.

    Raises:
        ExtraMissingError: the splitter needs a package that is not installed.
        ModelBrokenError: the splitter downloads models while it runs.
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


def make_splitter(name: str, word: str = "") -> Split:
    """Return a function that splits texts into words that keep their marks; safe to call from many threads.

    Args:
        name: the splitter.
        word: a regular expression for words, without groups, if the splitter consists of that alone.

    Raises:
        ExtraMissingError, ModelBrokenError: by `choose_splitter`.
    """
    if word:
        return join_marks(make_pattern_splitter(word))
    choose_splitter("the model", name)
    if name == Splitter.CHAR:
        return make_character_splitter()
    return join_marks(
        _lock_splitter(_make_spacy_splitter() if name == Splitter.SPACY else _load_gliner_splitter(name))
    )


def make_character_splitter() -> Split:
    """Return a splitter for which each written character of a script without blanks is a word.

    These are Han, kana and bopomofo, Yi, and Thai, Lao, Khmer, Burmese and their relatives. Everything else is
    split as by `whitespace`. A word is made of whole graphemes: marks, vowel signs, subscript consonants and
    the parts of an emoji stay together.
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
    plain = make_pattern_splitter(WORD)
    by_script = make_gap_splitter(cut)
    return lambda text: plain(text) if text.isascii() else by_script(text)


def _lock_splitter(splitter: Callable[[str], Iterable[tuple[int, int]]]) -> Split:
    lock = threading.Lock()  # these splitters promise nothing about threads

    def split_text(text: str) -> Words:
        with lock:
            offsets = list(splitter(text))
        words = [text[start:end] for start, end in offsets]
        return Words(words, [start for start, _ in offsets], [end for _, end in offsets])

    return split_text


def _make_spacy_splitter() -> Callable[[str], Iterable[tuple[int, int]]]:
    """Return gliner's splitter `spacy` without gliner, and without a vocabulary that grows with every word."""
    import spacy

    nlp: Any = spacy.blank("en")
    nlp.max_length = MAX_SPACY

    def split_text(text: str) -> list[tuple[int, int]]:
        if any(len(run) > MAX_RUN for run in text.split()):
            return [match.span() for match in re.finditer(WORD, text)]
        with nlp.memory_zone():
            return [(token.idx, token.idx + len(token)) for token in nlp.make_doc(text)]

    return split_text


def _load_gliner_splitter(name: str) -> Callable[[str], Iterable[tuple[int, int]]]:
    from worker.model import gliner_loader  # seconds to import; only models of some languages need it

    splitter = gliner_loader.load_splitter(name)
    return lambda text: [(start, end) for _, start, end in splitter(text)]
