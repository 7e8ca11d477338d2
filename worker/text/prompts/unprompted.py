"""Tasks of models that read no prompt: all questions are asked in one pass, and take no tokens of a row. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.schema import DocumentError, DocumentErrorCode
from jobs.tasks import Tasks
from worker.protocols import Tokenizer
from worker.text.prompts.base import MAX_LISTED, Prompt, TaskPrompts, clean_texts, warn_unreadable
from worker.text.words import Text


@dataclass(frozen=True)
class UnpromptedTasks(TaskPrompts):
    """Questions that the model compares with the text, which is alone in its row."""

    @classmethod
    def encode(cls, tasks: Tasks, tokenizer: Tokenizer) -> UnpromptedTasks:
        """Return the texts of labels and relations: a description if there is one."""
        labels, warnings = clean_texts("label", (text or name for name, text in tasks.labels.items()), tokenizer)
        relations, more_warnings = clean_texts(
            "relation", (question.description or name for name, question in tasks.relations.items()), tokenizer
        )
        spec = tokenizer.spec
        counts = tokenizer.count_label_tokens(labels)
        warnings += [*warn_unreadable("label", counts), *_warn_truncated(counts, spec.max_label_tokens)]
        readable = tuple(text if count else "" for text, count in zip(labels, counts, strict=True))
        return cls(tasks, spec, readable, tuple(relations), spec.special_tokens, (*warnings, *more_warnings))

    def group_passes(self, text: Text) -> list[Prompt] | DocumentError:
        """Return one pass with all questions."""
        labels = tuple(index for index, prompt in enumerate(self.prompts) if prompt)
        if not labels and not self.tasks.classifications:
            return DocumentError(DocumentErrorCode.INVALID_DOCUMENT, "The model can read none of the labels.")
        texts = tuple(self.prompts[index] for index in labels)
        classes = tuple(range(len(self.tasks.classifications)))
        return [Prompt(labels, texts, 0, [], (), self.select_relations(labels), classes)]


def _warn_truncated(counts: Sequence[int], limit: int) -> list[str]:
    """Return a warning if some labels have more tokens than the model reads; 0 is no limit."""
    longer = [number for number, count in enumerate(counts, 1) if 0 < limit < count]
    if not longer:
        return []
    numbers = ", ".join(map(str, longer[:MAX_LISTED])) + (", ..." if len(longer) > MAX_LISTED else "")
    return [f"Label {numbers}: only the first {limit} tokens were read."]
