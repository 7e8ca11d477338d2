"""A gateway without a model: it finds every `Ada`, counts in the unit asked for, and redacts by crossing out."""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.support.fakes.scripted_http import Answer, ReceivedRequest, ScriptedServer, problem


@dataclass
class EchoGateway:
    """Every job is finished at once.

    Attributes:
        submitted: the documents of all jobs, in the order of their arrival.
        options: the options of all jobs, likewise.
        refuse_from: the number of the request from which on everything is refused; None refuses nothing.
    """

    submitted: list[dict[str, Any]] = field(default_factory=list)
    options: list[dict[str, Any]] = field(default_factory=list)
    refuse_from: int | None = None
    url: str = ""

    def __post_init__(self) -> None:
        self._jobs: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {}
        self._numbers, self._lock, self._requests = itertools.count(1), threading.Lock(), 0

    @contextmanager
    def running(self) -> Iterator[EchoGateway]:
        """Serve while the block runs."""
        with ScriptedServer(behaviour=self).running() as server:
            self.url = server.url
            yield self

    def __call__(self, request: ReceivedRequest) -> Answer:
        """Answer a request."""
        with self._lock:
            self._requests += 1
            if self.refuse_from is not None and self._requests >= self.refuse_from:
                return problem(403, "forbidden")
        if request.method == "POST":
            body = request.json()
            job = f"job_{request.headers.get('idempotency-key') or next(self._numbers)}"
            if job not in self._jobs:
                self._jobs[job] = (body["documents"], body.get("options", {}))
                self.submitted += body["documents"]
                self.options.append(body.get("options", {}))
            return Answer(202, self._info(job))
        job = request.path.split("/")[3]
        if not request.path.endswith("/results"):
            return Answer(body=self._info(job))
        documents, options = self._jobs[job]
        results = [_result(index, document, options) for index, document in enumerate(documents)]
        return Answer(body={"data": results, "next_cursor": None, "complete": True})

    def _info(self, job: str) -> dict[str, Any]:
        total = len(self._jobs[job][0])
        return {"id": job, "status": "succeeded", "counts": {"total": total, "succeeded": total}}


def _result(index: int, document: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    text, head = document["text"], {"index": index, "id": str(index)}
    if not text.strip():
        error = {"code": "empty_text", "detail": "it is empty", "retryable": False}
        return {**head, "status": "failed", "entities": [], "error": error}
    sizes = {"byte": lambda part: len(part.encode()), "utf16": lambda part: len(part.encode("utf-16-le")) // 2}
    size = sizes.get(options.get("offset_unit", ""), len)
    entities = [
        {
            "start": size(text[: at.start()]),
            "end": size(text[: at.end()]),
            "text": "Ada",
            "label": "x",
            "score": 0.9,
        }
        for at in re.finditer("Ada", text)
    ]
    more = {"text": text} if options.get("return_text") else {}
    if options.get("redact"):
        more["redacted_text"] = text.replace("Ada", "[X]")
    return {**head, "status": "succeeded", "entities": entities, **json.loads(json.dumps(more))}
