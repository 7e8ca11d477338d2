"""Only architectures that the installed transformers has built in may be loaded."""

from __future__ import annotations

import pytest
from transformers.models.auto import CONFIG_MAPPING
from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

from worker.model.sources.configs import MODEL_TYPES, is_tokenizer


def test_every_type_is_built_in() -> None:
    """A type that transformers no longer has would be a promise that cannot be kept."""
    assert all(name in CONFIG_MAPPING for name in MODEL_TYPES)


@pytest.mark.parametrize("kind", ["bert", "deberta", "deberta-v2", "modernbert", "mt5", "xlm-roberta", "electra"])
def test_the_tokenizers_of_the_encoders_in_use_are_allowed(kind: str) -> None:
    """Under both names that published configurations have."""
    name = TOKENIZER_MAPPING_NAMES[kind]
    assert name
    assert is_tokenizer(name)
    assert is_tokenizer(f"{name}Fast" if name.endswith("Tokenizer") else name)
