"""A bi-encoder's forward pass in three parts: words of texts, vectors of labels, and scores of one with the other.

gliner runs all three for every batch. Here a label's vector is computed once, its projection once per set of
labels, and a text is encoded once however many sets of labels the texts of a micro-batch ask for.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as functional
from gliner.modeling.utils import extract_word_embeddings

from worker.model.collate import word_slots
from worker.model.graph import INPUTS, Graph, MarkerHead, replace_part

Tensors = tuple[torch.Tensor, ...]

PAIR_FLOATS = 1 << 23
"""Numbers of the widest layer over pairs of words and labels that are computed at once: 32 MB."""


class LabelEncoder(torch.nn.Module):
    """The label encoder: padded ids of labels and their mask -> a vector for each label.

    Args:
        core: gliner's model.
    """

    def __init__(self, core: Any) -> None:
        super().__init__()
        self._layer = core.token_rep_layer

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the vectors of labels, one in each row."""
        vectors: torch.Tensor = self._layer.encode_labels(ids, mask)
        return vectors


class BiEncoderGraph(Graph):
    """The parts of a bi-encoder; it shares the weights of `core`.

    Where the model fuses (`post_fusion_schema`), words and labels attend to each other: the scores of a label then
    depend on the others, and a text's words are scored with all its labels together.

    Args:
        core: gliner's model.

    Attributes:
        fuses: words and labels attend to each other.
        label_axis: axis of the logits that counts labels.
        label_encoder: returns vectors of labels.
    """

    inputs = INPUTS

    def __init__(self, core: Any) -> None:
        super().__init__(replace_part(core, ("token_rep_layer", "labels_encoder"), torch.nn.Identity()))
        self.label_encoder = LabelEncoder(core)
        self.fuses = hasattr(core, "cross_fuser")
        self.label_axis = 2 if hasattr(core, "scorer") else 3
        self._head = make_head(self.core)

    def encode_words(self, *tensors: torch.Tensor, **hints: Any) -> Tensors:
        """Return the texts' words, as `score` needs them; the inputs are those of `inputs`."""
        input_ids, attention_mask, words_mask, text_lengths = tensors
        tokens = self.core.token_rep_layer.encode_text(input_ids, attention_mask, **hints)
        rows, _, size = tokens.shape
        words, mask = extract_word_embeddings(
            tokens, words_mask, attention_mask, rows, text_lengths.max(), size, text_lengths,
            getattr(self.core.config, "subtoken_pooling", "first"),
        )  # fmt: skip
        if self.fuses:
            return words, mask
        return self._project_words(words)

    def project_labels(self, vectors: torch.Tensor) -> Tensors:
        """Return the vectors of one set of labels, as `score` needs them."""
        projected: Tensors = (vectors,) if self.fuses else self._head.project_labels(vectors)
        return projected

    def score(self, words: Tensors, labels: Tensors) -> torch.Tensor:
        """Return the logits of texts that ask for one set of labels."""
        if self.fuses:
            words, labels = self._fuse(words, labels)
        scores: torch.Tensor = self._head.score(words, labels)
        return scores

    def _fuse(self, words: Tensors, labels: Tensors) -> tuple[Tensors, Tensors]:
        """Let the words and labels of each row attend to each other."""
        vectors, mask = words
        (labels_of_rows,) = labels
        labels_of_rows = labels_of_rows.to(vectors.dtype).expand(len(vectors), -1, -1)
        everything = torch.ones(labels_of_rows.shape[:-1], dtype=torch.int64, device=vectors.device)
        vectors, labels_of_rows = self.core.features_enhancement(vectors, labels_of_rows, mask, everything)
        return self._project_words(vectors), self._head.project_labels(labels_of_rows)

    def _project_words(self, words: torch.Tensor) -> Tensors:
        """Return the words for the head, with zeros up to a number that few shapes have."""
        padding = int(word_slots(words.shape[1])) - words.shape[1]
        projected: Tensors = self._head.project_words(functional.pad(words, (0, 0, 0, padding)))
        return projected


def make_head(core: Any) -> Any:
    """Return the layers that score words with labels, in their cheapest form."""
    if hasattr(core, "scorer"):
        return _TokenHead(core)
    if MarkerHead.can_run(core):
        return ManyLabelsHead(core)
    return _SpanHead(core)


class ManyLabelsHead(MarkerHead):
    """A `MarkerHead` that makes a vector for each span where the number of labels makes this cheaper.

    A span's hidden layer is four times as wide as its vector: to make the vectors costs as much as to multiply the
    hidden layer with about 1.3 times as many labels as a vector has numbers.
    """

    def __init__(self, core: Any) -> None:
        super().__init__(core)
        hidden, size = self._head.out_project[-1].in_features, self._head.out_project[-1].out_features
        self._few = hidden * size // (hidden - size)

    def project_labels(self, vectors: torch.Tensor) -> Tensors:
        """Return factors and addends of few labels, or the vectors of many."""
        return super().project_labels(vectors) if vectors.shape[-2] <= self._few else (self._labels(vectors),)

    def score(self, words: Tensors, labels: Tensors) -> torch.Tensor:
        """Return scores of (row, first word, width, label)."""
        if len(labels) > 1:
            return super().score(words, labels)
        (starts, ends), factors, second = words, labels[0].transpose(-1, -2), self._head.out_project[-1]
        count = starts.shape[1]
        by_width = [
            second((starts + ends[:, width : width + count]).relu()) @ factors for width in range(self._width)
        ]
        return torch.stack(by_width, dim=2)


class _SpanHead(torch.nn.Module):
    """Any of gliner's ways to make vectors of spans."""

    def __init__(self, core: Any) -> None:
        super().__init__()
        self._spans, self._labels = core.span_rep_layer, core.prompt_rep_layer
        self._width = core.config.max_width

    def project_words(self, words: torch.Tensor) -> Tensors:
        count = words.shape[1]
        starts = torch.arange(count, device=words.device).repeat_interleave(self._width)
        ends = starts + torch.arange(self._width, device=words.device).repeat(count)
        index = torch.stack([starts, ends], dim=1) * (ends < count)[:, None]
        return (self._spans(words, index.expand(len(words), -1, -1)),)

    def project_labels(self, vectors: torch.Tensor) -> Tensors:
        return (self._labels(vectors),)

    def score(self, words: Tensors, labels: Tensors) -> torch.Tensor:
        (spans,), (vectors,) = words, labels
        return spans @ (vectors.transpose(-1, -2) if vectors.dim() == 2 else vectors.transpose(-1, -2)[:, None])


class _TokenHead(torch.nn.Module):
    """gliner's `Scorer`, which has a hidden layer for every word and label, a part of the labels at a time.

    The hidden layer reads a word, a label, and their product: the first two parts are computed once per word and
    label instead of once per pair.
    """

    def __init__(self, core: Any) -> None:
        super().__init__()
        self._scorer = core.scorer
        self._hidden, self._out = core.scorer.out_mlp[0], core.scorer.out_mlp[-1]
        self._size = core.scorer.out_mlp[0].in_features // 3

    def project_words(self, words: torch.Tensor) -> Tensors:
        first, second = self._scorer.proj_token(words).chunk(2, dim=-1)
        return functional.linear(first, self._hidden.weight[:, : self._size], self._hidden.bias), second

    def project_labels(self, vectors: torch.Tensor) -> Tensors:
        first, second = self._scorer.proj_label(vectors).chunk(2, dim=-1)
        return functional.linear(first, self._hidden.weight[:, self._size : 2 * self._size]), second

    def score(self, words: Tensors, labels: Tensors) -> torch.Tensor:
        rows, count, width = words[0].shape
        step = max(1, PAIR_FLOATS // (rows * count * width))
        parts = [
            self._score_pairs(words, tuple(tensor[..., start : start + step, :] for tensor in labels))
            for start in range(0, labels[0].shape[-2], step)
        ]
        return torch.cat(parts, dim=2)

    def _score_pairs(self, words: Tensors, labels: Tensors) -> torch.Tensor:
        (word_hidden, word_factor), (label_hidden, label_factor) = words, labels
        if label_hidden.dim() == 3:
            label_hidden, label_factor = label_hidden[:, None], label_factor[:, None]
        products = word_factor[:, :, None] * label_factor
        hidden = functional.linear(products, self._hidden.weight[:, 2 * self._size :])
        hidden = hidden + word_hidden[:, :, None] + label_hidden
        scores: torch.Tensor = self._out(hidden.relu())
        return scores
