"""Tokenizers of every kind, made in a fraction of a second from a few texts in many scripts."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from math import log
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from tests.support.scripts import SCRIPTS
from tests.support.texts import FILLER, LABEL_SETS

BOTH_ENDS = ("[CLS]", "[SEP]")
LONGEST = 6
"""Characters of a token."""


class Pieces(StrEnum):
    """Ways to cut words into tokens, with the special tokens of the models that use them."""

    WORDPIECE = "uncased, accents stripped: BERT"
    BYTE_BPE = "bytes: ModernBERT"
    UNIGRAM_BERT = "SentencePiece with BERT's special tokens: DeBERTa-v3"
    UNIGRAM_XLMR = "SentencePiece: XLM-R"
    UNIGRAM_T5 = "SentencePiece with an end only: T5"


_BERT = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]",
         "mask_token": "[MASK]"}  # fmt: skip
_SPECIAL = {
    Pieces.WORDPIECE: _BERT,
    Pieces.BYTE_BPE: _BERT,
    Pieces.UNIGRAM_BERT: {**_BERT, "bos_token": "[CLS]", "eos_token": "[SEP]"},
    Pieces.UNIGRAM_XLMR: {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>",
                          "cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"},
    Pieces.UNIGRAM_T5: {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"},
}  # fmt: skip
_ROW = {Pieces.UNIGRAM_XLMR: "<s> $A </s>", Pieces.UNIGRAM_T5: "$A </s>"}


def make_tokenizer(kind: Pieces, vocabulary: int, model_max_length: int | None) -> Any:
    """Return a fast tokenizer, the same one in every process.

    Args:
        kind: how it cuts words.
        vocabulary: the most tokens that it has.
        model_max_length: its limit in tokens; None: it names none.
    """
    special = _SPECIAL[kind]
    names = list(dict.fromkeys(special.values()))
    if kind is Pieces.BYTE_BPE:
        backend = _byte_pairs(names, vocabulary)
    elif kind is Pieces.WORDPIECE:
        backend = _word_pieces(names, vocabulary)
    else:
        backend = _unigram(names, vocabulary, special["unk_token"])
    row = _ROW.get(kind, "[CLS] $A [SEP]")
    ends = [(name, backend.token_to_id(name)) for name in row.split() if name != "$A"]
    backend.post_processor = processors.TemplateProcessing(single=row, special_tokens=ends)
    backend.add_special_tokens(names)
    limit = {"model_max_length": model_max_length} if model_max_length else {}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special, **limit)


def _byte_pairs(special: list[str], vocabulary: int) -> Any:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    backend.train_from_iterator(_texts(), trainer)
    return backend


def _word_pieces(special: list[str], vocabulary: int) -> Any:
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokens = [piece for piece, _ in _pieces(backend, vocabulary)]
    every = [*special, *tokens, *(f"##{piece}" for piece in tokens)][:vocabulary]
    every += [f"##{piece}" for piece in tokens if len(piece) == 1]  # so that every word can be cut
    backend.model = models.WordPiece({piece: i for i, piece in enumerate(dict.fromkeys(every))}, unk_token="[UNK]")
    return backend


def _unigram(special: list[str], vocabulary: int, unknown: str) -> Any:
    backend = Tokenizer(models.Unigram())
    backend.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC()])
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    every = [(name, 0.0) for name in special] + _pieces(backend, vocabulary - len(special))
    backend.model = models.Unigram(every, unk_id=special.index(unknown))
    return backend


def _pieces(backend: Any, most: int) -> list[tuple[str, float]]:
    """Return all characters, and the strings that cover most of the texts, with the logarithm of their share.

    The trainers of `tokenizers` break ties by the order of a hash table, which is another one in every process.
    """
    counts: Counter[str] = Counter()
    for text in _texts():
        for word, _ in backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(text)):
            lengths = range(1, min(len(word), LONGEST) + 1)
            counts.update(word[at : at + length] for length in lengths for at in range(len(word) - length + 1))
    ranked = sorted(counts, key=lambda piece: (len(piece) > 1, -counts[piece] * (len(piece) - 1), piece))
    return [(piece, log(counts[piece] / counts.total())) for piece in ranked[:most]]


def _texts() -> list[str]:
    return [*SCRIPTS.values(), *FILLER, *(" ".join(labels) for labels in LABEL_SETS)]
