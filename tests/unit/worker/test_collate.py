"""Our arrays against gliner's own collator's."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from gliner import GLiNER

from tests.support.texts import LABEL_SETS, passage
from worker import library
from worker.collate import Layout, collate
from worker.contract import ShardRef, Window
from worker.models import resolve

SHIPPED = Path(__file__).parents[3] / "models" / "gleaner-small"


@pytest.fixture(scope="module")
def model() -> Any:
    """The shipped model in gliner's hands."""
    return GLiNER.from_pretrained(str(SHIPPED), local_files_only=True)


def window(model: Any, text: str, prompts: tuple[str, ...]) -> Window:
    """A row, counted."""
    tokenizer = library.tokenizer(model, resolve(str(SHIPPED), None, Path("unused")))
    words = tuple(text[start:end] for start, end in tokenizer.split(text))
    spec = tokenizer.spec
    asked = [piece for prompt in prompts for piece in (spec.label_marker, prompt)]
    pieces = spec.special_pieces + sum(tokenizer.count([*asked, spec.text_marker, *words]))
    pieces = min(pieces, spec.max_pieces)
    return Window(ShardRef("job", 0), 0, words, prompts, (0.5,) * len(prompts), True, False, pieces)


@pytest.fixture(scope="module")
def windows(model: Any) -> list[Window]:
    """Texts with labels of their own; a word is nothing to the tokenizer, another is longer than a row."""
    random = Random(4)
    texts = [
        "One",
        "antidisestablishmentarianism" * 3 + "-x" * 300,
        "I \u2764\ufe0f Tokyo (antidisestablishmentarianism)",
        *(passage(random, 30) for _ in range(6)),
    ]
    return [window(model, text, tuple(random.choice(LABEL_SETS))) for text in texts]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("pooling", ["first", "last", "mean", "max"])
def test_arrays_are_those_of_gliners_collator(
    model: Any, windows: list[Window], pooling: str, side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pieces, masks, words and spans, whatever stands for a word and wherever rows are filled up."""
    tokenizer = library.tokenizer(model, resolve(str(SHIPPED), None, Path("unused")))
    monkeypatch.setattr(model.config, "subtoken_pooling", pooling)
    monkeypatch.setattr(model.data_processor.transformer_tokenizer, "padding_side", side)
    expected = model.collate_batch(
        [{"tokenized_text": list(w.words), "ner": None} for w in windows],
        [list(w.prompts) for w in windows],
        model.create_collator(),
    )

    layout = Layout(0, side == "left", pooling, model.config.max_width)
    found = collate(windows, tokenizer.spec, layout, tokenizer.backend)

    assert set(found) == {
        "input_ids",
        "attention_mask",
        "words_mask",
        "text_lengths",
        "span_idx",
        "span_mask",
    }
    spans = expected["span_mask"].unsqueeze(-1) * expected["span_idx"]  # the model multiplies them first
    for name, array in found.items():
        wanted = spans if name == "span_idx" else expected[name]
        assert np.array_equal(wanted.numpy(), array), name


def test_a_wrong_count_is_noticed(model: Any, windows: list[Window]) -> None:
    """A row that has other pieces than it was budgeted for is no silent cut."""
    tokenizer = library.tokenizer(model, resolve(str(SHIPPED), None, Path("unused")))
    long = Window(ShardRef("job", 0), 0, ("word",), ("person",), (0.5,), True, False, 999)

    with pytest.raises(RuntimeError, match="counted wrong"):
        collate([windows[0], long], tokenizer.spec, library.layout(model, ()), tokenizer.backend)
