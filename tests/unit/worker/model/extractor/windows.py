"""Windows of an extractor whose words and names are one token each."""

from __future__ import annotations

from typing import Any

from worker.protocols import ClassPrompt, RelationPrompt, ShardRef, Window


def make_window(
    words: str, labels: int = 2, relations: int = 0, classes: tuple[ClassPrompt, ...] = (), **options: Any
) -> Window:
    """Return a window of words, with labels of threshold 0.5."""
    sizes = [*([labels] if labels else []), *[2] * relations, *(len(of.labels) for of in classes)]
    prompt = sum(7 + 2 * size for size in sizes)
    text = tuple(words.split())
    values: dict[str, Any] = {
        "owner": ShardRef("job", 0),
        "document": 0,
        "words": text,
        "prompts": tuple(f"label {number}" for number in range(labels)),
        "thresholds": (0.5,) * labels,
        "flat": True,
        "multi_label": False,
        "row_tokens": prompt + len(text) + 1,
        "token_ids": range(1, prompt + len(text) + 1),
        "tokens_per_word": (1,) * (prompt + len(text)),
        "relations": tuple(RelationPrompt(f"relation {number}", 0.5) for number in range(relations)),
        "classes": classes,
    }
    return Window(**values | options)
