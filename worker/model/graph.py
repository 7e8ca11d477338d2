"""A model's forward pass from named tensors to scores: as gliner has it, or by a cheaper way to the same scores."""

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
    """Tensors in the order of `inputs` -> a tuple of the logits alone.

    `forward` also takes hints: lengths as lists, which spare the device a question.

    Attributes:
        inputs: names, as `worker.model.collate` gives them.
    """

    inputs: tuple[str, ...] = INPUTS

    def __init__(self, core: Any) -> None:
        super().__init__()
        self.core = core


class LibraryGraph(Graph):
    """The forward pass as gliner has it, or with a `PaddedBiLSTM`."""

    def __init__(self, core: Any, spans: bool) -> None:
        super().__init__(core)
        self.inputs = (*INPUTS, "span_idx", "span_mask") if spans else INPUTS

    def forward(self, *tensors: torch.Tensor, **hints: Any) -> tuple[torch.Tensor, ...]:
        """Run the model."""
        return (self.core(**dict(zip(self.inputs, tensors, strict=True)), **hints).logits,)


class MarkerGraph(Graph):
    """Spans scored from their first and last word (`markerV0`) without ever building a vector for each span.

    gliner projects the two words' vectors, joined, twice, and multiplies the result with every label's vector. The
    first projection of a joined vector is the sum of two projections, one a word instead of one a span. The second
    is linear, and can so be applied to the few labels instead of the many spans. The scores are the same but for
    rounding.
    """

    def __init__(self, core: Any) -> None:
        super().__init__(without_packing(core))
        self._head = core.span_rep_layer.span_rep_layer
        self._width = core.config.max_width
        self._recurrent = hasattr(core, "rnn")

    @staticmethod
    def fits(core: Any) -> bool:
        """Whether this is such a model."""
        layer = getattr(core, "span_rep_layer", None)
        return (
            layer is not None
            and type(layer.span_rep_layer) is SpanMarkerV0
            and isinstance(layer.context_encoder, IdentityContextEncoder)
        )

    def forward(self, *tensors: torch.Tensor, **hints: Any) -> tuple[torch.Tensor, ...]:
        """Run the model."""
        input_ids, attention_mask, words_mask, text_lengths = tensors
        room = word_slots(text_lengths.max()) - text_lengths.max()
        if not self._recurrent:
            text_lengths = text_lengths + room  # in a mask that only a recurrent layer looks at
        seen = self.core.get_representations(input_ids, attention_mask, text_lengths, words_mask, **hints)
        words = seen.words_embedding
        if self._recurrent:
            words = functional.pad(words, (0, 0, 0, room))
        return (self._scored(words, seen.prompts_embedding),)

    def _scored(self, words: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
        """Scores of (row, first word, width, label) from the vectors of words and of labels' markers."""
        head = self._head
        first, second = head.out_project[0], head.out_project[-1]
        size = first.in_features // 2  # a constant, so that an export has the two halves as weights
        starts = functional.linear(head.project_start(words).relu(), first.weight[:, :size], first.bias)
        ends = functional.linear(head.project_end(words).relu(), first.weight[:, size:])
        ends = functional.pad(ends, (0, 0, 0, self._width - 1))  # spans over the end: decoding leaves them out
        prompts = self.core.prompt_rep_layer(prompts)
        labels = (prompts @ second.weight).transpose(1, 2)
        count = starts.shape[1]
        scores = [(starts + ends[:, width : width + count]).relu() @ labels for width in range(self._width)]
        every: torch.Tensor = torch.stack(scores, dim=2) + (prompts @ second.bias)[:, None, None, :]
        return every


def lean(module: ModuleT, dtype: torch.dtype) -> ModuleT:
    """A copy whose linear layers have the weights that autocast would make in every pass; it shares the rest."""
    linear = [part for part in module.modules() if isinstance(part, torch.nn.Linear)]
    own = {id(weight) for part in linear for weight in part.parameters() if weight.dtype is not dtype}
    shared = {id(one): one for one in (*module.parameters(), *module.buffers()) if id(one) not in own}
    made = copy.deepcopy(module, shared)
    for part in made.modules():
        if isinstance(part, torch.nn.Linear):
            part.to(dtype)
    return made
