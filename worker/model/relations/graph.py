"""Forward pass of gliner's models for relations, in two steps: scores of entities, then those of pairs in one row.

gliner selects the entities and pairs of a whole batch by one threshold. Here every row's entities are selected by
the row's thresholds, and its pairs are scored apart from other rows: answers do not depend on them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from gliner.modeling.utils import extract_prompt_features, extract_spans_from_tokens

from worker.model.collate import word_slots
from worker.model.graph import INPUTS, SPAN_INPUTS, Graph, MarkerHead, without_packing
from worker.protocols import Window

MAX_ENTITIES = 192
"""Spans of a row between which relations are scored, those of the highest scores: pairs grow with their square."""
CONTEXT_LAYERS = ("attention", "attn", "gat", "gcn")
"""Values of `relations_layer` with which all candidate spans of a row decide on each of its pairs."""
MAX_CANDIDATES = 1024
"""Candidate spans of a row up to which they do."""
PAIR_FLOATS = 1 << 24
"""Numbers of a layer over pairs that are computed at once: 64 MB."""


class EncodedRows(NamedTuple):
    """Vectors of a micro-batch's words and relation markers, and the logits of its entities.

    Attributes:
        logits: as `Graph.forward` returns them.
        words: of (row, word).
        relations: of (row, relation).
        spans: of (row, first word, width), where the model cannot make single spans.
    """

    logits: torch.Tensor
    words: torch.Tensor
    relations: torch.Tensor
    spans: torch.Tensor | None = None


class ScoredPairs(NamedTuple):
    """Scores of a row's pairs.

    Attributes:
        ends: of (pair, 4): first and last word of the head, first and last word of the tail.
        logits: of (pair, relation).
    """

    ends: torch.Tensor
    logits: torch.Tensor


class RelexGraph(Graph):
    """A model for entities and relations; `forward` returns the scores of entities alone.

    Args:
        core: gliner's model; stays unchanged.
        tagged: it tags words instead of scoring spans.
    """

    def __init__(self, core: Any, tagged: bool) -> None:
        super().__init__(without_packing(core))
        self.tagged = tagged
        self._marker = MarkerHead(core) if not tagged and MarkerHead.can_run(core) else None
        self.inputs = INPUTS if tagged or self._marker else (*INPUTS, *SPAN_INPUTS)

    def forward(self, *tensors: torch.Tensor, **hints: Any) -> torch.Tensor:
        """Run the model for entities."""
        return self.encode(*tensors, **hints).logits

    def encode(self, *tensors: torch.Tensor, **hints: Any) -> EncodedRows:
        """Return the vectors that pairs are scored with, and the scores of entities."""
        core, config = self.core, self.core.config
        input_ids, attention_mask, words_mask, text_lengths, *spans = tensors
        word_lengths = hints.pop("word_lengths", None)
        tokens = core.token_rep_layer(input_ids, attention_mask, **hints)
        prompts, _, words, mask = core._extract_prompt_features_and_word_embeddings(
            tokens, input_ids, attention_mask, text_lengths, words_mask
        )
        relations, _ = extract_prompt_features(
            config.rel_token_index, tokens, input_ids, attention_mask, len(tokens), tokens.shape[-1],
            config.embed_rel_token,
        )  # fmt: skip
        if hasattr(core, "rnn"):
            words = core.rnn(words, mask, lengths=word_lengths)
        padding = int(word_slots(words.shape[1])) - words.shape[1]
        words = torch.nn.functional.pad(words, (0, 0, 0, padding))
        return self._score_entities(words, prompts, relations, *spans)

    def _score_entities(
        self, words: torch.Tensor, prompts: torch.Tensor, relations: torch.Tensor, *spans: torch.Tensor
    ) -> EncodedRows:
        if self._marker is not None:
            projected = self._marker.project_words(words), self._marker.project_labels(prompts)
            return EncodedRows(self._marker.score(*projected), words, relations)
        prompts = self.core.prompt_rep_layer(prompts)
        if self.tagged:
            return EncodedRows(self.core.scorer(words, prompts), words, relations)
        index, mask = spans
        vectors = self.core.span_rep_layer(words, index * mask[..., None])
        logits = torch.einsum("BLKD,BCD->BLKC", vectors, prompts)
        return EncodedRows(logits, words, relations, vectors)

    def score_pairs(
        self, rows: EncodedRows, row: int, window: Window, entities: torch.Tensor
    ) -> ScoredPairs | None:
        """Return the scores of the pairs of one row's entities, or None if it has none.

        Args:
            rows: the micro-batch.
            row: the row.
            window: the row's.
            entities: of (entity, 2): first and last word of spans, overlaps resolved, each once.
        """
        spans = self._add_context(rows.logits[row, : len(window.words)], window, entities)
        vectors = self._represent_spans(rows, row, spans)
        pairs = self._select_pairs(vectors, min(window.thresholds))
        pairs = pairs[(pairs < len(entities)).all(1)]
        if not len(pairs):
            return None
        relations = rows.relations[row, : len(window.relations)]
        step = max(1, PAIR_FLOATS // (vectors.shape[-1] * max(4, len(relations))))
        scores = [
            self._score_relations(vectors[part[:, 0]], vectors[part[:, 1]], relations)
            for part in torch.split(pairs, step)
        ]
        return ScoredPairs(spans[pairs].flatten(1), torch.cat(scores).float())

    def _add_context(self, logits: torch.Tensor, window: Window, entities: torch.Tensor) -> torch.Tensor:
        """Return the spans that decide which entities may be related: the entities first.

        Where that depends on the two entities alone, no other span matters.
        """
        if self.core.config.relations_layer.lower() not in CONTEXT_LAYERS:
            return entities
        thresholds = torch.tensor(window.thresholds, device=logits.device)
        candidates = self._find_candidates(logits.float(), thresholds)
        if len(candidates) > MAX_CANDIDATES:
            return entities
        equal = (candidates[:, None] == entities[None]).all(-1)
        context = torch.ones(len(candidates), dtype=torch.bool, device=logits.device)
        context[equal.int().argmax(0)[equal.any(0)]] = False  # once: token models list a span for each label
        return torch.cat([entities, candidates[context]])

    def _find_candidates(self, logits: torch.Tensor, thresholds: torch.Tensor) -> torch.Tensor:
        """Return the first and last words of all spans above their label's threshold, as gliner does."""
        if self.tagged:
            logits = logits[None, :, : len(thresholds)]
            index, mask = extract_spans_from_tokens(logits, threshold=thresholds)
            spans: torch.Tensor = index[0][mask[0]]
            return spans
        starts = torch.arange(len(logits), device=logits.device)[:, None]
        ends = starts + torch.arange(logits.shape[1], device=logits.device)
        above = (logits[..., : len(thresholds)].sigmoid() > thresholds).any(-1) & (ends < len(logits))
        return torch.stack([starts.expand_as(ends)[above], ends[above]], dim=1)

    def _represent_spans(self, rows: EncodedRows, row: int, spans: torch.Tensor) -> torch.Tensor:
        """Return the vectors of spans."""
        starts, ends = spans[:, 0], spans[:, 1]
        if rows.spans is not None:
            return rows.spans[row, starts, ends - starts]
        # The layers of `markerV0` and of token models: gliner's own call wants every span of a row.
        head = self.core.span_rep_layer.span_rep_layer
        words = rows.words[row]
        marks = head.project_start(words[starts]), head.project_end(words[ends])
        vectors: torch.Tensor = head.out_project(torch.cat(marks, dim=-1).relu())
        return vectors

    def _select_pairs(self, vectors: torch.Tensor, threshold: float) -> torch.Tensor:
        """Return (head, tail), indexes of spans, of the pairs that may be related."""
        count = len(vectors)
        related = ~torch.eye(count, dtype=torch.bool, device=vectors.device)
        if hasattr(self.core, "relations_rep_layer"):
            present = torch.ones(1, count, dtype=torch.int64, device=vectors.device)
            related &= self.core.relations_rep_layer(vectors[None], present)[0] > threshold
        return related.nonzero()

    def _score_relations(self, heads: torch.Tensor, tails: torch.Tensor, relations: torch.Tensor) -> torch.Tensor:
        """Return the logits of (pair, relation)."""
        if hasattr(self.core, "pair_rep_layer"):
            vectors = self.core.pair_rep_layer(torch.cat([heads, tails], dim=-1))
            scores: torch.Tensor = vectors @ relations.to(vectors.dtype).T
            return scores
        shape = len(heads), len(relations), heads.shape[-1]
        head, tail = (ends[:, None].expand(shape).reshape(-1, shape[-1]) for ends in (heads, tails))
        relation = relations[None].expand(shape).reshape(-1, shape[-1])
        triples: torch.Tensor = self.core.triples_score_layer(head, relation, tail)
        return triples.view(shape[:2])
