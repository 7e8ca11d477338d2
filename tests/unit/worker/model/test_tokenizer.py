"""Words and their tokens, for many threads."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from tests.support.engine import SPEC, WORD
from tests.support.texts import passage
from worker.model.tokenizer import MAX_CACHED_WORD, FastTokenizer

TOKENIZER_JSON = Path(__file__).parents[4] / "models" / "gleaner-small" / "tokenizer.json"


@pytest.fixture
def impatient() -> Iterator[None]:
    """Make threads take turns a hundred times as often as usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(before / 100)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("impatient")
def test_threads_that_share_a_tokenizer_get_what_one_alone_gets() -> None:
    """The same words and tokens, while other threads encode."""
    tokenizer = FastTokenizer(SPEC, TOKENIZER_JSON.read_text(encoding="utf-8"), WORD)
    random = Random(3)
    texts = [passage(random, random.choice((3, 30, 90))) for _ in range(60)]

    def read(text: str) -> tuple[list[str], list[int], list[int]]:
        words = tokenizer.split(text).words
        ids, counts = tokenizer.encode(words)
        return list(words), list(ids), counts

    alone = [read(text) for text in texts]
    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(read, texts * 10)) == alone * 10
    assert all(sum(counts) == len(ids) for _, ids, counts in alone)


def _train_tokenizer(kind: str) -> Tokenizer:
    """Return a tokenizer like BERT's (the shipped model's), DeBERTa-v3's or RoBERTa's."""
    corpus = [passage(Random(7), 40) for _ in range(20)]
    if kind == "wordpiece":
        backend = Tokenizer.from_file(str(TOKENIZER_JSON))
        backend.no_truncation()
        backend.no_padding()
        return backend
    trainer: trainers.Trainer
    if kind == "metaspace":
        backend = Tokenizer(models.Unigram())
        backend.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Strip()])
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        trainer = trainers.UnigramTrainer(vocab_size=200, unk_token="[UNK]", special_tokens=["[UNK]", "<<ENT>>"])
    else:
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        backend.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, special_tokens=["<<ENT>>"])
    backend.train_from_iterator(corpus, trainer)
    return backend


@pytest.mark.parametrize("kind", ["wordpiece", "metaspace", "bytelevel"])
def test_words_alone_have_the_tokens_of_words_in_a_row(kind: str) -> None:
    """Every word by itself, cached or not, has the tokens that gliner reads in a row; a word may have none."""
    backend = _train_tokenizer(kind)
    tokenizer = FastTokenizer(SPEC, backend.to_str(), WORD)
    odd = [
        "<<ENT>>",
        "a<<ENT>>b",
        "\ufe0f",
        "\u200b",
        "İ",
        "e\u0301",
        "日本語",
        "🏳️\u200d🌈",
        "x" * (MAX_CACHED_WORD + 1),
    ]
    random = Random(5)
    for _ in range(20):
        words = [*passage(random, 30).split(), *odd]
        random.shuffle(words)
        together = backend.encode(words, is_pretokenized=True, add_special_tokens=False)
        counts = [together.word_ids.count(index) for index in range(len(words))]
        assert tokenizer.encode(words) == (together.ids, counts)
