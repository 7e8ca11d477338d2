"""The worker's settings."""

from __future__ import annotations

from typing import Any, Literal, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from worker.model.selection.choice_cache import Device, Precision, RuntimeName
from worker.model.sources.resolve import Convert
from worker.settings import MIN_ROW_TOKENS, WorkerSettings


def test_a_row_has_room_for_labels_and_text() -> None:
    """A typing error in the setting does not make a worker that refuses every text."""
    for tokens in (1, 64, MIN_ROW_TOKENS - 1):
        with pytest.raises(ValidationError, match=f"at least {MIN_ROW_TOKENS}"):
            WorkerSettings(max_row_tokens=tokens)
    assert [WorkerSettings(max_row_tokens=tokens).max_row_tokens for tokens in (0, MIN_ROW_TOKENS)] == [0, 128]


@given(st.lists(st.text("abc -_", min_size=1).map(str.strip).filter(bool)))
def test_labels_are_separated_by_commas(labels: list[str]) -> None:
    """Blanks around them and empty ones do not count."""
    assert WorkerSettings(metric_labels=" , ".join(labels)).metric_labels == tuple(labels)
    assert WorkerSettings(metric_labels=",".join(["", *labels, ""])).metric_labels == tuple(labels)


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """With their prefix; labels are not read as JSON."""
    monkeypatch.setenv("GLEANER_METRIC_LABELS", "person, drug name")
    monkeypatch.setenv("GLEANER_WORD_SPLITTER", "char")
    settings = WorkerSettings()
    assert settings.metric_labels == ("person", "drug name")
    assert settings.word_splitter == "char"


@pytest.mark.parametrize(
    ("name", "type_of_engine"),
    [("device", Device), ("precision", Precision), ("runtime", RuntimeName), ("model_convert", Convert)],
)
def test_every_choice_of_the_settings_is_one_of_the_engine(name: str, type_of_engine: Any) -> None:
    """They are written twice: the settings are read without the model's packages."""
    annotation = WorkerSettings.model_fields[name].annotation
    assert annotation is not None
    assert annotation == Literal[get_args(type_of_engine)]


@pytest.mark.parametrize(
    ("name", "value"), [("model_variant", "fp16.x"), ("gpu_shared_by", 0), ("runtime", "tpu"), ("model", "")]
)
def test_values_that_make_no_sense_are_refused(name: str, value: object) -> None:
    """At the start."""
    with pytest.raises(ValidationError, match=name):
        WorkerSettings(**{name: value})
