"""Chooses the form of prompt that a model reads. Pure."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import orjson

from jobs.tasks import Tasks
from worker.protocols import PromptFormat, Tokenizer
from worker.text.prompts.base import TaskPrompts
from worker.text.prompts.gliner import LabelPrompts
from worker.text.prompts.gliner2 import SchemaPrompts
from worker.text.prompts.unprompted import UnpromptedTasks

MAX_CACHED_SETS = 32
"""Sets of tasks whose prompts are cached, least recently used first out."""

PromptEncoder = Callable[[Tasks, Tokenizer], TaskPrompts]


def encode_prompts(tasks: Tasks, tokenizer: Tokenizer) -> TaskPrompts:
    """Encode tasks as prompts in the form that the model reads."""
    match tokenizer.spec.prompt_format:
        case PromptFormat.NONE:
            return UnpromptedTasks.encode(tasks, tokenizer)
        case PromptFormat.GLINER | PromptFormat.RELATIONS:
            return LabelPrompts.encode(tasks, tokenizer)
        case PromptFormat.GLINER2:
            return SchemaPrompts.encode(tasks, tokenizer)


def cache_prompts(tokenizer: Tokenizer) -> PromptEncoder:
    """Return `encode_prompts` for this tokenizer with a cache of the latest sets of tasks."""
    encode = lru_cache(MAX_CACHED_SETS)(lambda wire: encode_prompts(Tasks.from_wire(orjson.loads(wire)), tokenizer))
    return lambda tasks, _: encode(orjson.dumps(tasks.to_wire()))
