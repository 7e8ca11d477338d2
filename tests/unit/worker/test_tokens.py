"""Words and their pieces, for many threads."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest

from tests.support.engine import SPEC, WORD
from tests.support.texts import passage
from worker.tokens import FastTokenizer

PIECES = Path(__file__).parents[3] / "models" / "gleaner-small" / "tokenizer.json"


@pytest.fixture
def impatient() -> Iterator[None]:
    """Threads that take turns a hundred times as often as they would."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(before / 100)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("impatient")
def test_threads_that_share_a_tokenizer_get_what_one_alone_gets() -> None:
    """The same words and pieces, whoever else encodes at that moment."""
    tokenizer = FastTokenizer(SPEC, PIECES.read_text(encoding="utf-8"), WORD.pattern, "whitespace")
    random = Random(3)
    texts = [passage(random, random.choice((3, 30, 90))) for _ in range(60)]

    def read(text: str) -> tuple[list[str], list[int], list[int]]:
        words = [text[start:end] for start, end in tokenizer.split(text)]
        ids, counts = tokenizer.encode(words)
        return words, list(ids), counts

    alone = [read(text) for text in texts]
    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(read, texts * 10)) == alone * 10
    assert all(sum(counts) == len(ids) for _, ids, counts in alone)
