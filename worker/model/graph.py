"""A model's forward pass from named tensors to scores: gliner's own, or a cheaper one with the same scores."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
import torch.nn.functional as functional
from gliner.modeling.context_encoders import IdentityContextEncoder
from gliner.modeling.span_rep import SpanMarkerV0

from worker.model.collate import word_slots
from worker.model.recurrent import without_packing

INPUTS = ("input_ids", "attention_mask", "words_mask", "text_lengths")
ModuleT = TypeVar("ModuleT", bound=torch.nn.Module)


class Graph(torch.nn.Module):
    """Tensors in the order of `inputs` -> the logits.

    `forward` also takes hints: lengths as lists, which save a synchronisation with the device.

    Attributes:
        inputs: names, as in the arrays of `worker.model.collate`.
    """

    inputs: tuple[str, ...] = INPUTS

    def __init__(self, core: Any) -> None:
        super().__init__()
        self.core = core


class LibraryGraph(Graph):
    """gliner's own forward pass, or the same with a `PaddedBiLSTM`."""

    def __init__(self, core: Any, spans: bool) -> None:
        super().__init__(core)
        self.inputs = (*INPUTS, "span_idx", "span_mask") if spans else INPUTS

    def forward(self, *tensors: torch.Tensor, **hints: Any) -> torch.Tensor:
        """Run the model."""
        logits: torch.Tensor = self.core(**dict(zip(self.inputs, tensors, strict=True)), **hints).logits
        return logits


class MarkerGraph(Graph):
    """Spans scored from their first and last word (`markerV0`) without ever building a vector for each span.

    gliner projects the two words' concatenated vectors twice, and multiplies the result with every label's vector.
    The first projection of a concatenated vector is the sum of two projections, one per word instead of one per
    span. The second is linear, so it can be applied to the few labels instead of the many spans. The scores are the
    same but for rounding.
    """

    def __init__(self, core: Any) -> None:
        super().__init__(without_packing(core))
        self._head = core.span_rep_layer.span_rep_layer
        self._width = core.config.max_width
        self._recurrent = hasattr(core, "rnn")

    @staticmethod
    def can_run(core: Any) -> bool:
        """Return whether `core` scores spans by their markers."""
        layer = getattr(core, "span_rep_layer", None)
        return (
            layer is not None
            and type(layer.span_rep_layer) is SpanMarkerV0
            and isinstance(layer.context_encoder, IdentityContextEncoder)
        )

    def forward(self, *tensors: torch.Tensor, **hints: Any) -> torch.Tensor:
        """Run the model."""
        input_ids, attention_mask, words_mask, text_lengths = tensors
        padding = word_slots(text_lengths.max()) - text_lengths.max()
        if not self._recurrent:
            text_lengths = text_lengths + padding  # in a mask that only a recurrent layer reads
        output = self.core.get_representations(input_ids, attention_mask, text_lengths, words_mask, **hints)
        words = output.words_embedding
        if self._recurrent:
            words = functional.pad(words, (0, 0, 0, padding))
        return self._score_spans(words, output.prompts_embedding)

    def _score_spans(self, words: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
        """Return scores of (row, first word, width, label) from the vectors of words and of labels' markers."""
        head = self._head
        first, second = head.out_project[0], head.out_project[-1]
        size = first.in_features // 2  # a constant, so that an export has the two halves as weights
        starts = functional.linear(head.project_start(words).relu(), first.weight[:, :size], first.bias)
        ends = functional.linear(head.project_end(words).relu(), first.weight[:, size:])
        ends = functional.pad(ends, (0, 0, 0, self._width - 1))  # spans beyond the row's end: decoding skips them
        prompts = self.core.prompt_rep_layer(prompts)
        labels = (prompts @ second.weight).transpose(1, 2)
        count = starts.shape[1]
        by_width = [(starts + ends[:, width : width + count]).relu() @ labels for width in range(self._width)]
        scores: torch.Tensor = torch.stack(by_width, dim=2) + (prompts @ second.bias)[:, None, None, :]
        return scores


def cast_linear_weights(module: ModuleT, dtype: torch.dtype) -> ModuleT:
    """Return a copy with linear layers cast once, as autocast would in every pass; it shares all other weights."""
    linear = [part for part in module.modules() if isinstance(part, torch.nn.Linear)]
    to_cast = {id(weight) for part in linear for weight in part.parameters() if weight.dtype is not dtype}
    tensors = (*module.parameters(), *module.buffers())
    shared = {id(tensor): tensor for tensor in tensors if id(tensor) not in to_cast}
    result = copy.deepcopy(module, shared)
    for part in result.modules():
        if isinstance(part, torch.nn.Linear):
            part.to(dtype)
    return result
