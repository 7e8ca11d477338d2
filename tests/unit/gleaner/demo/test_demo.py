"""The demo against a gateway that answers in this process and signs its webhook."""

from __future__ import annotations

import json
import time
from io import StringIO
from typing import Any

import httpx
import pytest
from rich.console import Console

from gateway.webhooks.signing import sign_headers
from gleaner import Client
from gleaner import demo as demo_module
from gleaner.demo import run_samples
from gleaner.demo.samples import load_samples

USAGE = {"characters": 10_000, "windows": 12, "windowed_documents": 1}


class Gateway:
    """Finishes the demo's job at once; optionally the first document fails, or no webhook is sent."""

    def __init__(self, *, fails: bool = False, notifies: bool = True) -> None:
        self._fails, self._notifies = fails, notifies
        self._results: list[dict[str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            self._run_job(json.loads(request.content))
        if request.url.path.endswith("/results"):
            return httpx.Response(200, json={"data": self._results, "next_cursor": None, "complete": True})
        return httpx.Response(200, json={"id": "job_1", "status": "succeeded", "usage": USAGE})

    def _run_job(self, body: dict[str, Any]) -> None:
        for index, document in enumerate(body["documents"]):
            entity = {"start": 0, "end": 3, "text": document["text"][:3], "label": "thing", "score": 0.9}
            self._results.append(
                {"index": index, "id": document["id"], "status": "succeeded", "entities": [entity], "windows": 2}
            )
        if self._fails:
            error = {"code": "out_of_memory", "detail": "too large"}
            self._results[0] |= {"status": "failed", "entities": [], "error": error}
        if self._notifies:
            hook, event = body["webhook"], b'{"type":"job.succeeded"}'
            headers = sign_headers("dlv_1", int(time.time()), event, [hook["secret"]])
            httpx.post(hook["url"], content=event, headers=headers, trust_env=False).raise_for_status()


def run(gateway: Gateway) -> tuple[bool, str]:
    """Run the demo; return whether all is well, and its output."""
    output = StringIO()
    with Client("http://g", transport=httpx.MockTransport(gateway)) as client:
        succeeded = run_samples(client, Console(file=output, width=200))
    return succeeded, output.getvalue()


def test_every_sample_is_shown_with_a_summary_and_the_webhook() -> None:
    """Titles with words and windows, long texts abridged, sums over all."""
    succeeded, output = run(Gateway())

    assert succeeded
    assert all(sample.id in output for sample in load_samples())
    assert "job job_1: 10 documents accepted" in output
    assert "(1 entities in all)" in output
    assert "entities   10: thing 10" in output
    assert "12 (documents with more than one: 1)" in output
    assert "webhook    job.succeeded, signature verified" in output


def test_a_failed_document_shows_its_reason() -> None:
    """And the demo has not succeeded."""
    succeeded, output = run(Gateway(fails=True))

    assert not succeeded
    assert "too large" in output
    assert "10 (1 failed)" in output


def test_a_webhook_that_does_not_come_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """The results are shown all the same."""
    monkeypatch.setattr(demo_module, "_WEBHOOK_S", 0.01)
    succeeded, output = run(Gateway(notifies=False))

    assert not succeeded
    assert "no webhook arrived" in output
    assert "long-railway" in output
