"""The forward pass of GLiNER2.5: proposes spans by where they begin and end, and scores those against labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gliner2.models.boundary.proposal import resolve_boundary_budget
from gliner2.models.boundary.relations import RelationPairBatch
from numpy.typing import NDArray

from worker.model.extractor.collate import Batch
from worker.model.extractor.decode_proposals import BoundaryOutputs, Proposals
from worker.model.extractor.states import States, encode

Array = NDArray[Any]


def run_boundary_model(core: Any, batch: Batch, device: str) -> BoundaryOutputs:
    """Run the model on a micro-batch."""
    states = encode(core.encoder, batch, device)
    class_logits = core.classifier(states.classes).squeeze(-1) / core.boundary_settings.classification_temperature
    groups = _group_rows(core.boundary_settings, batch)
    proposals = tuple(_propose_spans(core, _select_rows(states, batch, rows), batch, rows) for rows in groups)
    return BoundaryOutputs(_to_numpy(class_logits), proposals)


def _to_numpy(tensor: torch.Tensor) -> Array:
    result: Array = (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy()
    return result


def _group_rows(settings: Any, batch: Batch) -> list[list[int]]:
    """Return the rows that have queries, those together for which the model proposes equally many boundaries.

    Their number may depend on the length of the longest row: then others would change a row's answers.
    """
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for row, (words, queries) in enumerate(
        zip(batch.arrays["word_counts"].tolist(), batch.arrays["marker_counts"].tolist(), strict=True)
    ):
        if queries:
            groups[_boundary_budget(settings, words)].append(row)
    return [*groups.values()]


def _boundary_budget(settings: Any, words: int) -> int:
    return resolve_boundary_budget(
        words + 1,
        base_k=min(settings.start_top_k, settings.end_top_k),
        alpha=settings.boundary_top_k_alpha,
        k_max=settings.boundary_top_k_max,
        bucket=settings.boundary_top_k_bucket,
    )


def _select_rows(states: States, batch: Batch, rows: Sequence[int]) -> States:
    words, queries = (int(batch.arrays[name][list(rows)].max()) for name in ("word_counts", "marker_counts"))
    index = torch.tensor(rows, device=states.tokens.device)
    return States(
        states.tokens,
        states.words[index, :words],
        states.markers[index, :queries],
        states.classes,
        states.word_mask[index, :words],
        states.marker_mask[index, :queries],
    )


def _propose_spans(core: Any, states: States, batch: Batch, rows: Sequence[int]) -> Proposals:
    settings = core.boundary_settings
    output = core.boundary_head(
        states.words, states.word_mask, states.markers, states.marker_mask, return_candidates=True
    )
    candidates = output.candidates
    shape = candidates.query_mask.shape
    valid = candidates.valid_mask & candidates.query_mask[..., None]
    scores = torch.sigmoid(candidates.pair_logits / settings.pair_temperature).float().masked_fill(~valid, np.nan)
    absent = scores.new_zeros(shape) if output.null_logits is None else torch.sigmoid(output.null_logits)
    expected = scores.new_zeros(shape)
    if settings.adaptive_threshold and output.count_log_rates is not None:
        expected = torch.exp(output.count_log_rates).round()
    pairs, pair_scores = _score_pairs(core, states, candidates, [batch.windows[row] for row in rows])
    arrays = map(_to_numpy, (candidates.indices, scores, absent, expected, pairs, pair_scores))
    return Proposals(rows, *arrays)


def _score_pairs(
    core: Any, states: States, candidates: Any, windows: Sequence[Any]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the pairs of spans that the model proposes for each relation, and their scores."""
    device = states.words.device
    none = torch.zeros(0, 6, dtype=torch.long, device=device), torch.zeros(0, device=device)
    width = max(len(window.relations) for window in windows)
    if not width or not core.enable_relations:
        return none
    routing, heads, tails = _route_relations(windows, width, candidates.query_mask.shape[1], device)
    proposed = core.relation_pair_generator.generate_batched(candidates, (), (), routing=routing)
    index = torch.arange(len(windows), device=device)[:, None]
    markers = states.markers[index, heads], states.markers[index, tails]
    directional = core.boundary_settings.directional_relation_states
    queries = torch.cat(markers, dim=-1) if directional else torch.stack(markers).mean(dim=0)
    parts = [none]
    for row, window in enumerate(windows):
        if window.relations:
            # Alone: the distance of head and tail is a share of the words in the tensor, padding included.
            words = states.words[row : row + 1, : int(states.word_mask[row].sum())]
            of_row = _select_pairs(proposed, row)
            logits = core.relation_scorer(words, queries[row : row + 1], candidates, of_row)
            numbers = torch.full_like(of_row.relation_index, row), of_row.relation_index
            ends = of_row.head_start, of_row.head_end, of_row.tail_start, of_row.tail_end
            scores = torch.sigmoid(logits / core.boundary_settings.relation_temperature).float()
            parts.append((torch.stack((*numbers, *ends), dim=1), scores))
    all_pairs, all_scores = zip(*parts, strict=True)
    return torch.cat(all_pairs), torch.cat(all_scores)


def _select_pairs(proposed: Any, row: int) -> RelationPairBatch:
    """Return the proposals of a row, as those of a micro-batch of that row alone."""
    mask = (proposed.batch_index == row) & proposed.pair_mask
    names = ("relation_index", "head_start", "head_end", "tail_start", "tail_end", "head_prob", "tail_prob")
    columns: dict[str, Any] = {name: getattr(proposed, name)[mask] for name in names}
    first: Any = torch.zeros_like(columns["relation_index"])
    return RelationPairBatch(first, **columns)


def _route_relations(windows: Sequence[Any], width: int, queries: int, device: torch.device) -> Any:
    """Return the queries of each relation's heads and tails, as the generator's masks and as indexes."""
    shape = len(windows), width
    heads, valid = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.bool)
    for row, window in enumerate(windows):
        count = len(window.relations)
        heads[row, :count] = len(window.prompts) + 2 * torch.arange(count)
        valid[row, :count] = True
    heads, valid = heads.to(device), valid.to(device)
    tails = torch.where(valid, heads + 1, heads)
    masks = [torch.nn.functional.one_hot(ends, queries).bool() & valid[..., None] for ends in (heads, tails)]
    return (*masks, valid, torch.zeros_like(valid)), heads, tails
