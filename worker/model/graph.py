"""A model's forward pass from named tensors to scores: gliner's own, or a cheaper one with the same scores."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
import torch.nn.functional as functional
from gliner.modeling.context_encoders import IdentityContextEncoder
from gliner.modeling.span_rep import SpanMarkerV0

from worker.model.collate import word_slots

INPUTS = ("input_ids", "attention_mask", "words_mask", "text_lengths")
SPAN_INPUTS = ("span_idx", "span_mask")
LABEL_INPUTS = ("labels_input_ids", "labels_attention_mask")
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

    def __init__(self, core: Any, spans: bool, labels: bool = False) -> None:
        super().__init__(core)
        self.inputs = (*INPUTS, *(SPAN_INPUTS if spans else ()), *(LABEL_INPUTS if labels else ()))

    def forward(self, *tensors: torch.Tensor, **hints: Any) -> torch.Tensor:
        """Run the model."""
        logits: torch.Tensor = self.core(**dict(zip(self.inputs, tensors, strict=True)), **hints).logits
        return logits


class MarkerHead(torch.nn.Module):
    """Spans scored from their first and last word (`markerV0`) without ever building a vector for each span.

    gliner projects the two words' concatenated vectors twice, and multiplies the result with every label's vector.
    The first projection of a concatenated vector is the sum of two projections, one per word instead of one per
    span. The second is linear, so it can be applied to the few labels instead of the many spans. The scores are the
    same but for rounding.

    Args:
        core: gliner's model.
    """

    def __init__(self, core: Any) -> None:
        super().__init__()
        self._head = core.span_rep_layer.span_rep_layer
        self._labels = core.prompt_rep_layer
        self._width = core.config.max_width

    @staticmethod
    def can_run(core: Any) -> bool:
        """Return whether `core` scores spans by their markers."""
        layer = getattr(core, "span_rep_layer", None)
        return (
            layer is not None
            and type(layer.span_rep_layer) is SpanMarkerV0
            and isinstance(layer.context_encoder, IdentityContextEncoder)
        )

    def project_words(self, words: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the parts that words have in a span that begins, and in one that ends, with them."""
        head = self._head
        first = head.out_project[0]
        size = first.in_features // 2  # a constant, so that an export has the two halves as weights
        starts = functional.linear(head.project_start(words).relu(), first.weight[:, :size], first.bias)
        ends = functional.linear(head.project_end(words).relu(), first.weight[:, size:])
        ends = functional.pad(ends, (0, 0, 0, self._width - 1))  # spans beyond the row's end: decoding skips them
        return starts, ends

    def project_labels(self, vectors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the factor and the addend of each label, for vectors of (label) or (row, label)."""
        second = self._head.out_project[-1]
        vectors = self._labels(vectors)
        return (vectors @ second.weight).transpose(-1, -2), vectors @ second.bias

    def score(self, words: tuple[torch.Tensor, ...], labels: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Return scores of (row, first word, width, label)."""
        (starts, ends), (factors, addends) = words, labels
        count = starts.shape[1]
        by_width = [(starts + ends[:, width : width + count]).relu() @ factors for width in range(self._width)]
        scores: torch.Tensor = torch.stack(by_width, dim=2) + addends[..., None, None, :]
        return scores


class MarkerGraph(Graph):
    """A uni-encoder with a `MarkerHead`."""

    def __init__(self, core: Any) -> None:
        super().__init__(without_packing(core))
        self._head = MarkerHead(core)
        self._recurrent = hasattr(core, "rnn")

    @staticmethod
    def can_run(core: Any) -> bool:
        """Return whether `core` scores spans by their markers."""
        return MarkerHead.can_run(core)

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
        return self._head.score(self._head.project_words(words), self._head.project_labels(prompts))


class PaddedBiLSTM(torch.nn.Module):
    """A bidirectional LSTM over padded rows.

    gliner packs the rows. An exported packed LSTM has the rows' lengths as an input that OpenVINO's CPU plugin does
    not respect: its backward pass begins in the padding, and scores depend on the other rows. Here the forward pass
    never sees the padding; for the backward pass the row itself is reversed, and its padding stays behind it.

    Args:
        lstm: the layer whose weights are copied.
    """

    def __init__(self, lstm: torch.nn.LSTM) -> None:
        super().__init__()
        names = [f"l{layer}" for layer in range(lstm.num_layers)]
        self._forward_layers = torch.nn.ModuleList(_copy_direction(lstm, name) for name in names)
        self._backward_layers = torch.nn.ModuleList(_copy_direction(lstm, f"{name}_reverse") for name in names)

    def forward(self, words: torch.Tensor, mask: torch.Tensor, **_: Any) -> torch.Tensor:
        """Return the words' vectors with context from both sides of the row; zeros after its end, like in gliner.

        Args:
            words: vectors of (row, word).
            mask: of (row, word): true for words, false for padding.
        """
        lengths = mask.sum(1, keepdim=True)
        at = torch.arange(words.shape[1], device=words.device)[None, :]
        reversed_at = torch.where(at < lengths, lengths - 1 - at, at)[..., None]
        if words.device.type == "cuda":  # under autocast cuDNN would run it in fp16, whatever the settings say
            with torch.autocast("cuda", enabled=False):
                return self._run_both(words.float(), reversed_at) * mask[..., None]
        return self._run_both(words, reversed_at) * mask[..., None]

    def _run_both(self, words: torch.Tensor, reversed_at: torch.Tensor) -> torch.Tensor:
        for ahead, back in zip(self._forward_layers, self._backward_layers, strict=True):
            left, _ = ahead(words)
            right, _ = back(words.gather(1, reversed_at.expand_as(words)))
            words = torch.cat([left, right.gather(1, reversed_at.expand_as(right))], dim=-1)
        return words


def without_packing(core: Any) -> Any:
    """Return gliner's model with a `PaddedBiLSTM`; it shares everything else, and `core` stays unchanged."""
    if not hasattr(core, "rnn") or isinstance(core.rnn, PaddedBiLSTM):
        return core
    return replace_part(core, ("rnn",), PaddedBiLSTM(core.rnn.lstm))


def replace_part(module: Any, path: tuple[str, ...], replacement: torch.nn.Module) -> Any:
    """Return a copy of the module with `replacement` at `path`; everything else is shared."""
    name, *rest = path
    result = copy.copy(module)
    part = replace_part(getattr(module, name), tuple(rest), replacement) if rest else replacement
    result._modules = {**module._modules, name: part}
    return result


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


def _copy_direction(lstm: torch.nn.LSTM, name: str) -> torch.nn.LSTM:
    weights = {kind: getattr(lstm, f"{kind}_{name}") for kind in ("weight_ih", "weight_hh")}
    if lstm.bias:
        weights |= {kind: getattr(lstm, f"{kind}_{name}") for kind in ("bias_ih", "bias_hh")}
    layer = torch.nn.LSTM(weights["weight_ih"].shape[1], lstm.hidden_size, bias=lstm.bias, batch_first=True)
    layer.load_state_dict({f"{kind}_l0": value for kind, value in weights.items()})
    return layer.to(weights["weight_ih"].device)
