"""DeBERTa's encoder with fewer and cheaper operations for the same vectors, for graphs that are exported.

transformers computes relative positions, and projects their embeddings, in every layer of every pass, though no
text changes them; multiplies each query and key with the embeddings of all positions; and picks one product of
these for each pair of tokens by an index as large as all attention scores. Here the projections are weights. A
query is multiplied with the 2N - 1 distances of a row of N tokens, in order of distance, where the products of
the next query are shifted by one: a slice of the flattened matrix aligns them with their keys.
"""

from __future__ import annotations

import copy
import math
from typing import Any, TypeVar

import torch
from torch.nn import functional
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.deberta_v2 import modeling_deberta_v2 as deberta

from worker.model.graph import Graph, replace_part

MASKED = -1e9
"""Added to the score of a padding token. -inf would make NaN of a row of padding, and so would the least number of
32 bits, which is -inf in bf16."""
GraphT = TypeVar("GraphT", bound=Graph)
_ENCODER = ("core", "token_rep_layer", "bert_layer", "model", "encoder")


def with_lean_encoder(graph: GraphT) -> GraphT:
    """Return the graph with a `LeanEncoder` where its encoder is a DeBERTa; `graph` stays unchanged."""
    encoder: Any = graph
    for name in _ENCODER:
        encoder = getattr(encoder, name, None)
    if not LeanEncoder.can_replace(encoder):
        return graph
    result: GraphT = replace_part(graph, _ENCODER, LeanEncoder(encoder).eval())
    return result


class LeanEncoder(torch.nn.Module):
    """A `DebertaV2Encoder` for inference; it shares the encoder's weights but those of positions and queries.

    Vectors of padding tokens differ from the library's, which masks their attention; nothing reads them.

    Args:
        encoder: an encoder that it `can_replace`.
    """

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        with torch.no_grad():
            positions = encoder.get_rel_embedding()
            self._attention = torch.nn.ModuleList(
                _Attention(layer.attention.self, positions) for layer in encoder.layer
            )
        self._layers = encoder.layer
        self._conv = encoder.conv
        self._distances = None if positions is None else _Distances(encoder.layer[0].attention.self)

    @staticmethod
    def can_replace(encoder: Any) -> bool:
        """Return whether this is a DeBERTa encoder whose buckets grow with the distance."""
        if type(encoder) is not deberta.DebertaV2Encoder:
            return False
        buckets = getattr(encoder, "position_buckets", -1)
        return buckets <= 0 or 0 < buckets // 2 < encoder.max_relative_positions - 1

    def forward(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor, **_: Any) -> BaseModelOutput:
        """Return the vectors after the last layer, and after every layer.

        Args:
            hidden_states: embeddings of (row, token).
            attention_mask: 1 for tokens and 0 for padding, of (row, token).
        """
        mask = (1 - attention_mask)[:, None, None, :].to(hidden_states.dtype) * MASKED
        indexes = None if self._distances is None else self._distances(hidden_states.shape[1])
        states = [hidden_states]
        for number, (attention, layer) in enumerate(zip(self._attention, self._layers, strict=True)):
            context = layer.attention.output(attention(states[-1], mask, indexes), states[-1])
            output = layer.output(layer.intermediate(context), context)
            if number == 0 and self._conv is not None:
                output = self._conv(hidden_states, output, attention_mask)
            states.append(output)
        return BaseModelOutput(last_hidden_state=states[-1], hidden_states=tuple(states))


class _Distances(torch.nn.Module):
    """Indexes of the position embeddings, in order of distance, for rows of any length.

    Beyond `_longest` all distances have the same embedding. Indexes go from 0 to the number of embeddings: for
    queries the last two are the same embedding, and for keys, which see the distance with the opposite sign, the
    first two.
    """

    def __init__(self, attention: Any) -> None:
        super().__init__()
        span, buckets, limit = attention.pos_ebd_size, attention.position_buckets, attention.max_relative_positions
        self._longest = 2 * max(limit, span)
        distances = torch.arange(-self._longest, self._longest + 1)
        if buckets > 0 and limit > 0:
            distances = deberta.make_log_bucket_position(distances, buckets, limit)
        self._indexes: torch.Tensor
        self.register_buffer("_indexes", (distances.long() + span).clamp(0, 2 * span))

    def forward(self, length: int) -> torch.Tensor:
        """Return 2N indexes for rows of N tokens: of the distances N - 1 down to 1 - N, and one for padding."""
        distances = length - 1 - torch.arange(2 * length, device=self._indexes.device)
        return self._indexes[distances.clamp(-self._longest, self._longest) + self._longest]


class _Attention(torch.nn.Module):
    """A `DisentangledSelfAttention` with positions projected once; the scores' divisor is part of the weights.

    Args:
        attention: the layer whose weights are used.
        positions: embeddings of positions, normalised; None where it has none.
    """

    def __init__(self, attention: Any, positions: torch.Tensor | None) -> None:
        super().__init__()
        kinds = attention.pos_att_type
        self._heads, size = attention.num_attention_heads, attention.attention_head_size
        scale = 1 / math.sqrt(size * (1 + ("c2p" in kinds) + ("p2c" in kinds)))
        self._query = copy.deepcopy(attention.query_proj)
        self._query.weight *= scale
        self._query.bias *= scale
        self._key, self._value = attention.key_proj, attention.value_proj
        keys = attention.key_proj if attention.share_att_key else getattr(attention, "pos_key_proj", None)
        queries = attention.query_proj if attention.share_att_key else getattr(attention, "pos_query_proj", None)
        last = 2 * attention.pos_ebd_size if attention.relative_attention else 0
        order = torch.arange(last + 1).clamp(max=last - 1)
        back = (last - torch.arange(last + 1)).clamp(max=last - 1)
        self._keys_at = self._project_positions(keys, positions, order, 1.0) if "c2p" in kinds else None
        self._queries_at = self._project_positions(queries, positions, back, scale) if "p2c" in kinds else None

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor, indexes: torch.Tensor | None) -> torch.Tensor:
        """Return the attention output of (row, token).

        Args:
            hidden: the tokens' vectors.
            mask: added to the scores.
            indexes: from `_Distances`.
        """
        query, key, value = (
            project(hidden).unflatten(-1, (self._heads, -1)).transpose(1, 2)
            for project in (self._query, self._key, self._value)
        )
        bias = mask
        if self._keys_at is not None:
            bias = bias + _align(query @ self._keys_at[:, indexes].transpose(-1, -2))
        if self._queries_at is not None:
            bias = bias + _align(key @ self._queries_at[:, indexes].transpose(-1, -2)).transpose(-1, -2)
        scores = functional.softmax(query @ key.transpose(-1, -2) + bias, dim=-1)
        context: torch.Tensor = (scores @ value).transpose(1, 2).flatten(2)
        return context

    def _project_positions(
        self, project: Any, positions: torch.Tensor | None, order: torch.Tensor, scale: float
    ) -> torch.Tensor | None:
        """Return the projections as (head, position, dimension), in this order of positions."""
        if positions is None:
            return None
        vectors = (project(positions)[order] * scale).unflatten(-1, (self._heads, -1))
        return torch.nn.Buffer(vectors.transpose(0, 1).contiguous(), persistent=False)


def _align(products: torch.Tensor) -> torch.Tensor:
    """Return products of (token, distance), 2N distances from N - 1 downwards, as (token, other token)."""
    length = products.shape[-2]
    width = 2 * length - 1
    flat = products.flatten(-2)[..., length - 1 : length - 1 + length * width]
    return flat.view(*flat.shape[:-1], length, width)[..., :length]
