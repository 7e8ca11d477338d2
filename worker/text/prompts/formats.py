"""Chooses the form of prompt that a model reads. Pure."""

from __future__ import annotations

from collections.abc import Callable

import orjson

from jobs.tasks import Tasks
from worker.byte_cache import ByteCache
from worker.protocols import PromptFormat, Tokenizer
from worker.text.prompts.base import TaskPrompts
from worker.text.prompts.gliner import LabelPrompts
from worker.text.prompts.gliner2 import SchemaPrompts
from worker.text.prompts.unprompted import UnpromptedTasks

CACHE_BYTES = 16 << 20
"""Prompts that are cached, by a high estimate; least recently used first out."""
PROMPT_BYTES, BYTES_PER_BYTE = 8 * 1024, 16
"""Memory of prompts: of any, and for each byte of their tasks as JSON."""

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
    """Return `encode_prompts` for this tokenizer with a cache of the latest tasks."""
    cache: ByteCache[TaskPrompts] = ByteCache(CACHE_BYTES)

    def encode(tasks: Tasks, _: Tokenizer) -> TaskPrompts:
        wire = orjson.dumps(tasks.to_wire())
        prompts = cache.find([wire]).get(wire)
        if prompts is None:
            prompts = encode_prompts(tasks, tokenizer)
            cache.add(wire, prompts, PROMPT_BYTES + BYTES_PER_BYTE * len(wire))
        return prompts

    return encode
