"""The forward pass of GLiNER2: every span of up to some words is scored against every label."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as functional
from gliner2.layers import CountLSTMv2

from worker.model.extractor.collate import Batch, Group
from worker.model.extractor.decode_spans import SpanOutputs, list_slots
from worker.model.extractor.states import States, encode


def run_span_model(core: Any, batch: Batch, device: str) -> SpanOutputs:
    """Run the model on a micro-batch."""
    states = encode(core.encoder, batch, device)
    class_logits = core.classifier(states.classes).squeeze(-1)
    counts = _count_instances(core, states, batch.groups)
    queries = _build_queries(core, states, batch, counts)
    logits = _score_spans(core.span_rep.span_rep_layer, states.words, queries)
    return SpanOutputs(logits.float().cpu().numpy(), counts, class_logits.float().cpu().numpy())


def _count_instances(core: Any, states: States, groups: Sequence[Group]) -> list[int]:
    """Return how many instances of each schema the model sees in the text; of labels one at most matters."""
    if not groups:
        return []
    rows, questions = zip(*((group.row, group.question) for group in groups), strict=True)
    predicted = core.count_pred(states.tokens[list(rows), list(questions)]).argmax(-1).tolist()
    return [int(count) for count in predicted]


def _build_queries(core: Any, states: States, batch: Batch, counts: Sequence[int]) -> torch.Tensor:
    """Return the vectors of the rows' queries, zeros after a row's last."""
    slots = list_slots(batch.groups, counts)
    steps = [
        min(count, 1) if group.relation is None else count
        for group, count in zip(batch.groups, counts, strict=True)
    ]
    ends = [slot + group.size * step for slot, group, step in zip(slots, batch.groups, steps, strict=True)]
    queries = states.tokens.new_zeros(len(batch.windows), max(ends, default=0), states.tokens.shape[-1])
    by_size: defaultdict[int, list[int]] = defaultdict(list)
    for index, (group, step) in enumerate(zip(batch.groups, steps, strict=True)):
        if step:
            by_size[group.size].append(index)
    for size, indexes in by_size.items():
        rows = torch.tensor([[batch.groups[index].row] for index in indexes])
        firsts = torch.tensor([batch.groups[index].first for index in indexes])[:, None]
        fields = states.markers[rows, firsts + torch.arange(size)]
        embedded = _embed_counts(core.count_embed, fields, max(steps[index] for index in indexes))
        for position, index in enumerate(indexes):
            vectors = embedded[: steps[index], position].flatten(0, 1)
            queries[batch.groups[index].row, slots[index] : slots[index] + len(vectors)] = vectors
    return queries


def _embed_counts(layer: Any, fields: torch.Tensor, steps: int) -> torch.Tensor:
    """Return vectors of (instance, group, field) for fields of (group, field), all groups at once.

    An instance's vectors depend on those before it only.
    """
    groups, size, width = fields.shape
    flat = fields.flatten(0, 1)
    if not isinstance(layer, CountLSTMv2):  # the others treat every field by itself
        result: torch.Tensor = layer(flat, steps).unflatten(1, (groups, size))
        return result
    positions = layer.pos_embedding.weight[:steps, None].expand(-1, len(flat), -1)
    states = layer.gru(positions, flat) + flat
    mixed: torch.Tensor = layer.transformer(states.reshape(steps * groups, size, width))
    return mixed.view(steps, groups, size, width)


def _score_spans(head: Any, words: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    """Return scores of (row, first word, width, query) without a vector for each span.

    The first projection of a span's two words is the sum of two projections; the second is applied to the queries.
    """
    first, second = head.out_project[0], head.out_project[-1]
    size, count = words.shape[-1], words.shape[1]
    starts = functional.linear(head.project_start(words).relu(), first.weight[:, :size], first.bias)
    ends = functional.linear(head.project_end(words).relu(), first.weight[:, size:])
    ends = functional.pad(ends, (0, 0, 0, head.max_width - 1))  # spans beyond the row's end: decoding skips them
    folded = (queries @ second.weight).transpose(1, 2)
    by_width = [(starts + ends[:, width : width + count]).relu() @ folded for width in range(head.max_width)]
    scores: torch.Tensor = torch.stack(by_width, dim=2) + (queries @ second.bias)[:, None, None, :]
    return scores
