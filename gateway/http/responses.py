"""Responses of routes: an accepted job, a job, results."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractContextManager, ExitStack

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from gateway.reading.results import ResultsReader
from gateway.reading.views import build_etag, decode_metadata, job_json, job_url, retry_after_s
from gateway.schemas.jobs import JobWebhook
from gateway.submission.types import AcceptedJob
from jobs.codec import Codec
from jobs.schema import Job


class ReleasingResponse(StreamingResponse):
    """A stream that releases its resources when it ends, even if it never began.

    Args:
        content: yields the body.
        resources: closed at the end.
        media_type: of the content.
        headers: additional headers.
    """

    def __init__(
        self,
        content: AsyncIterator[bytes],
        resources: ExitStack,
        media_type: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(content, media_type=media_type, headers=headers)
        self._resources = resources

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream."""
        with self._resources:
            await super().__call__(scope, receive, send)


def accepted_response(accepted: AcceptedJob, headers: Mapping[str, str] | None = None) -> Response:
    """Return the 202 of a submission; a replay is the stored response."""
    return Response(
        accepted.render_body(),
        202,
        media_type="application/json",
        headers={"Retry-After": "1", **accepted_headers(accepted), **(headers or {})},
    )


def accepted_headers(accepted: AcceptedJob) -> dict[str, str]:
    """Return the headers with the job's URL, and whether an earlier request created it."""
    headers = {"Location": job_url(accepted.job_id)}
    if accepted.is_replay:
        headers["Idempotency-Replayed"] = "true"
    return headers


async def results_response(
    reader: ResultsReader,
    head: bytes = b"",
    end: Callable[[ResultsReader], bytes] = lambda _: b"",
    headers: Mapping[str, str] | None = None,
    slot: AbstractContextManager[None] | None = None,
) -> Response:
    """Return JSON with the results between `head` and `end`: at once if they are small, else as a stream.

    `slot` counts a stream until it ends.

    Raises:
        GatewayError: job_not_found or job_purged; rate_limited by `slot`.
        LedgerUnavailableError: Redis does not answer.
    """
    first = await reader.read_first()
    if reader.done:
        return Response(head + first + end(reader), media_type="application/json", headers=headers)
    with ExitStack() as resources:
        if slot is not None:
            resources.enter_context(slot)
        content = stream_results(reader, first, head, end)
        return ReleasingResponse(content, resources.pop_all(), "application/json", headers)


async def stream_results(
    reader: ResultsReader, first: bytes, head: bytes = b"", end: Callable[[ResultsReader], bytes] = lambda _: b""
) -> AsyncIterator[bytes]:
    """Yield `head`, the results of `reader` beginning with `first`, and the `end`."""
    async for chunk in reader.stream(head + first):
        yield chunk
    if tail := end(reader):
        yield tail


def job_response(
    codec: Codec,
    job: Job,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    webhook: JobWebhook | None = None,
) -> Response:
    """Return a job as a response with its ETag, and Retry-After until it has ended."""
    body = job_json(job, decode_metadata(codec, job), webhook)
    all_headers = {"ETag": build_etag(job), **(headers or {})}
    if not job.status.is_terminal:
        all_headers["Retry-After"] = str(retry_after_s(job))
    return Response(body, status, media_type="application/json", headers=all_headers)
