"""Our arrays compared with those of gliner's collator."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from gliner import GLiNER

from jobs.schema import Document, Labels
from jobs.tasks import Tasks
from tests.support.texts import LABEL_SETS, passage
from worker.model import gliner_loader
from worker.model.collate import WORD_STEP, collate_windows
from worker.model.sources.resolve import resolve_model
from worker.model.tokenizer import FastTokenizer
from worker.protocols import ROW_STEP, ShardRef, Window
from worker.text.windows import JobContext, cut_document

SHIPPED = Path(__file__).parents[4] / "models" / "gleaner-small"


@pytest.fixture(scope="module")
def model() -> Any:
    """Return the shipped model, loaded by gliner."""
    return GLiNER.from_pretrained(str(SHIPPED), local_files_only=True)


def window(model: Any, text: str, labels: Labels) -> Window:
    """Return a text's first window."""
    description = gliner_loader.describe_model(model, resolve_model(str(SHIPPED), None, Path("unused")), ())
    tokenizer = FastTokenizer(description.spec, description.tokenizer_json, description.word_pattern)
    return cut_document(Document(0, "0", text), JobContext(ShardRef("job", 0), Tasks(labels)), tokenizer).windows[0]


@pytest.fixture(scope="module")
def windows(model: Any) -> list[Window]:
    """Return windows with different labels; a word has no tokens, another is longer than a row."""
    random = Random(4)
    texts = [
        "One",
        "antidisestablishmentarianism" * 3 + "-x" * 300,
        "I \u2764\ufe0f Tokyo (antidisestablishmentarianism)",
        *(passage(random, 30) for _ in range(6)),
    ]
    return [window(model, text, random.choice(LABEL_SETS)) for text in texts]


@pytest.mark.parametrize("rows", [slice(None), slice(2, None)], ids=["longest", "usual"])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("pooling", ["first", "last", "mean", "max"])
def test_arrays_are_those_of_gliners_collator(
    model: Any, windows: list[Window], pooling: str, side: str, rows: slice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens, masks, words and spans are equal but for padding, for all poolings and padding sides."""
    windows = windows[rows]
    monkeypatch.setattr(model.config, "subtoken_pooling", pooling)
    monkeypatch.setattr(model.data_processor.transformer_tokenizer, "padding_side", side)
    expected = model.collate_batch(
        [{"tokenized_text": list(w.words), "ner": None} for w in windows],
        [list(w.prompts) for w in windows],
        model.create_collator(),
    )

    arrays = collate_windows(windows, gliner_loader.read_layout(model, ("span_idx",)))

    assert set(arrays) == {
        "input_ids",
        "attention_mask",
        "words_mask",
        "text_lengths",
        "span_idx",
        "span_mask",
    }
    spans = expected["span_mask"].unsqueeze(-1) * expected["span_idx"]  # the model multiplies them first
    assert arrays["input_ids"].shape[1] % ROW_STEP == 0
    assert arrays["span_idx"].shape[1] % (WORD_STEP * model.config.max_width) == 0
    for name, array in arrays.items():
        wanted = (spans if name == "span_idx" else expected[name]).numpy()
        padding = array.shape[1] - wanted.shape[1]
        widths = (0, padding) if side == "right" or name.startswith("span") else (padding, 0)
        filling = model.data_processor.transformer_tokenizer.pad_token_id if name == "input_ids" else 0
        around = ((0, 0), widths, *[(0, 0)] * (array.ndim - 2))
        assert np.array_equal(np.pad(wanted, around, constant_values=filling), array), name


def test_a_row_is_never_longer_than_the_model_reads(model: Any, windows: list[Window]) -> None:
    """Rows are not padded beyond the model's positions, also if these are no multiple of the step."""
    layout = replace(gliner_loader.read_layout(model, ()), longest=windows[0].row_tokens + 1)

    assert collate_windows(windows[:1], layout)["input_ids"].shape[1] == windows[0].row_tokens + 1


def test_a_wrong_count_is_noticed(model: Any, windows: list[Window]) -> None:
    """A row whose tokens differ from its budget raises an error."""
    wrong = replace(windows[0], row_tokens=windows[0].row_tokens + 1)

    with pytest.raises(RuntimeError, match="counted wrong"):
        collate_windows([windows[1], wrong], gliner_loader.read_layout(model, ()))
