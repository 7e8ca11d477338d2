"""Pairs of one row are selected and scored as by gliner's own layers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from gliner.modeling.layers import create_projection_layer
from gliner.modeling.multitask.relations_layers import RelationsRepLayer
from gliner.modeling.multitask.triples_layers import TriplesScoreLayer
from gliner.modeling.span_rep import SpanRepLayer
from gliner.modeling.utils import build_all_entity_pairs, build_entity_pairs

from worker.model.relations import graph as relex_graph
from worker.model.relations.graph import EncodedRows, RelexGraph
from worker.protocols import RelationPrompt, ShardRef, Window

SIZE, WIDTH, WORDS, LABELS = 16, 3, 6, 2
WINDOW = Window(
    ShardRef("job", 0), 0, ("w",) * WORDS, ("a",) * LABELS, (0.5, 0.6), flat=True, multi_label=False, row_tokens=8,
    relations=(RelationPrompt("r", 0.5),) * 2,
)  # fmt: skip


class Layers(torch.nn.Module):
    """The layers of gliner's model that make pairs."""

    def __init__(self, layer: str, triples: str | None) -> None:
        super().__init__()
        self.config = SimpleNamespace(max_width=WIDTH, relations_layer=layer)
        self.span_rep_layer = SpanRepLayer(SIZE, WIDTH, "markerV0", dropout=0.0)
        self.prompt_rep_layer = create_projection_layer(SIZE, 0.0)
        if layer != "none":
            self.relations_rep_layer = RelationsRepLayer(SIZE, layer)
        if triples:
            self.triples_score_layer = TriplesScoreLayer(triples)
        else:
            self.pair_rep_layer = create_projection_layer(2 * SIZE, 0.0, SIZE)


def score_by_library(
    core: Any, vectors: torch.Tensor, relations: torch.Tensor
) -> dict[tuple[int, ...], list[float]]:
    """Return gliner's scores of pairs of one row's spans."""
    present = torch.ones(1, len(vectors), dtype=torch.int64)
    if hasattr(core, "relations_rep_layer"):
        adjacent = core.relations_rep_layer(vectors[None], present)
        index, mask, heads, tails = build_entity_pairs(adjacent, vectors[None], threshold=min(WINDOW.thresholds))
    else:
        index, mask, heads, tails = build_all_entity_pairs(vectors[None], present)
    if hasattr(core, "pair_rep_layer"):
        scores = core.pair_rep_layer(torch.cat((heads, tails), dim=-1)) @ relations.T
    else:
        shape = heads.shape[1], len(relations), SIZE
        ends = [end[0, :, None].expand(shape).reshape(-1, SIZE) for end in (heads, tails)]
        relation = relations[None].expand(shape).reshape(-1, SIZE)
        scores = core.triples_score_layer(ends[0], relation, ends[1]).view(1, *shape[:2])
    return {
        tuple(pair): row
        for pair, row, real in zip(index[0].tolist(), scores[0].tolist(), mask[0], strict=True)
        if real
    }


@pytest.mark.parametrize("floats", [relex_graph.PAIR_FLOATS, 1])
@pytest.mark.parametrize(
    ("layer", "triples"), [("bilinear", "DistMult"), ("gcn", None), ("none", None), ("attention", "TransE")]
)
def test_pairs_have_the_librarys_scores(
    monkeypatch: pytest.MonkeyPatch, layer: str, triples: str | None, floats: int
) -> None:
    """Of the entities alone, though other candidates decide on them in some layers; in parts or at once."""
    monkeypatch.setattr(relex_graph, "PAIR_FLOATS", floats)
    torch.manual_seed(11)
    core = Layers(layer, triples).eval()
    graph = RelexGraph(core, tagged=False).eval()
    words, relations = torch.randn(2, WORDS, SIZE), torch.randn(2, 3, SIZE)
    logits = torch.randn(2, WORDS, WIDTH, LABELS)
    starts, widths = ((logits[1].sigmoid() > torch.tensor(WINDOW.thresholds)).any(-1)).nonzero().T
    candidates = [(int(s), int(s + w)) for s, w in zip(starts, widths, strict=True) if s + w < WORDS]
    entities = candidates[::2]
    with torch.inference_mode():
        pairs = graph.score_pairs(EncodedRows(logits, words, relations), 1, WINDOW, torch.tensor(entities))
        index = torch.tensor([(s, min(s + w, WORDS - 1)) for s in range(WORDS) for w in range(WIDTH)])
        grid = core.span_rep_layer(words[1:], index[None])[0]
        vectors = torch.stack([grid[start, end - start] for start, end in candidates])
        expected = score_by_library(core, vectors, relations[1, :2])
    wanted = {
        (*candidates[head], *candidates[tail]): scores
        for (head, tail), scores in expected.items()
        if candidates[head] in entities and candidates[tail] in entities
    }
    actual = dict(zip(map(tuple, pairs.ends.tolist()), pairs.logits.tolist(), strict=True)) if pairs else {}
    assert actual.keys() == wanted.keys()
    for key, scores in wanted.items():
        assert actual[key] == pytest.approx(scores, abs=1e-4)
