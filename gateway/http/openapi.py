"""The OpenAPI document: request bodies that routes read by hand, errors per route, and how a caller signs in."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from gateway.http.problems import MEDIA_TYPE, REGISTRY, Problem, ProblemCode
from gateway.http.schemas import DocumentIn, JobHead, JobRequest, ProblemBody, json_schema

SUMMARY = "Entity extraction with GLiNER as an asynchronous batch service"
DESCRIPTION = """
Submit texts and labels, get a job id at once; poll it, wait on it, or read results while it runs.

- Send `Authorization: Bearer gl_…` or `X-API-Key: gl_…`.
- An accepted job always ends, with one typed outcome per document; a bad document fails alone.
- Errors are `application/problem+json` with a stable `code`.
- Repeat a POST safely with an `Idempotency-Key`.
"""

TAGS = [
    {"name": "jobs", "description": "Submit, list, follow, read, cancel, retry, remove."},
    {"name": "webhooks", "description": "Who is told when a job ends, and what became of the telling."},
    {"name": "models", "description": "What jobs may ask for, and how much of it."},
    {"name": "operations", "description": "How the service stands; admins only."},
    {"name": "health", "description": "Probes; no key needed."},
]

ALWAYS: tuple[ProblemCode, ...] = (
    "unauthenticated",
    "forbidden",
    "csrf_refused",
    "https_required",
    "rate_limited",
    "internal_error",
    "keys_unavailable",
    "storage_unavailable",
)
BODY: tuple[ProblemCode, ...] = (
    "malformed_json",
    "bad_content_encoding",
    "request_timeout",
    "payload_too_large",
    "unsupported_media_type",
    "validation_failed",
)
"""Of every route that reads a body."""
SUBMIT: tuple[ProblemCode, ...] = (
    *BODY,
    "idempotency_in_progress",
    "too_many_documents",
    "unknown_model",
    "webhook_url_forbidden",
    "endpoint_not_found",
    "idempotency_key_reused",
    "quota_exceeded",
    "overloaded",
    "job_not_found",  # a repeated request waits for its job, which may have been removed since
    "job_purged",
)
JOB: tuple[ProblemCode, ...] = ("job_not_found", "job_purged")

JOB_REQUEST: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/JobRequest"}}},
    }
}
JOB_OR_LINES = {
    "requestBody": {
        "required": True,
        "content": {
            **JOB_REQUEST["requestBody"]["content"],
            "application/x-ndjson": {
                "schema": {
                    "type": "string",
                    "description": "A JobHead, then a DocumentIn a line.",
                },
                "example": '{"labels":["person","city"]}\n{"id":"a","text":"Grace Hopper lived in New York."}\n',
            },
        },
    }
}


def header(name: str, description: str, example: str) -> dict[str, Any]:
    """A request header that a route reads by hand."""
    return {
        "name": name,
        "in": "header",
        "required": False,
        "description": description,
        "schema": {"type": "string"},
        "example": example,
    }


IDEMPOTENCY_KEY = header(
    "Idempotency-Key",
    "Makes the request safe to repeat for 24 h: the first answer comes again, with `Idempotency-Replayed: true`.",
    "5f0c6f9e-import-2026-03-01",
)
CONTENT_ENCODING = header("Content-Encoding", "`gzip` or `zstd`, if the body is compressed.", "gzip")
PREFER = header("Prefer", "`wait=n`: answer when the job ends, or after n seconds (at most 60).", "wait=10")


def answers(*codes: ProblemCode) -> dict[int | str, dict[str, Any]]:
    """The error responses of a route, by status, with an example for each code."""
    responses: dict[int | str, dict[str, Any]] = {}
    for code in (*codes, *ALWAYS):
        kind = REGISTRY[code]
        found = responses.setdefault(
            kind.status,
            {
                "description": "",
                "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemBody"}, "examples": {}}},
            },
        )
        found["description"] = ", ".join(filter(None, (found["description"], f"`{code}`: {kind.title.lower()}")))
        example = Problem(code, kind.meaning).body("0af7651916cd43dd8448eb211c80319c")
        found["content"][MEDIA_TYPE]["examples"][code] = {"summary": kind.title, "value": example}
    return responses


def install(app: FastAPI) -> None:
    """Let the app serve this document."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title,
                version=app.version,
                summary=SUMMARY,
                description=DESCRIPTION.strip(),
                routes=app.routes,
                tags=TAGS,
                license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
                servers=[{"url": "/"}],
            )
            components = schema.setdefault("components", {}).setdefault("schemas", {})
            for name, body in json_schema([DocumentIn, JobHead, JobRequest, ProblemBody]).items():
                components.setdefault(name, body)
            _replace_fastapi_s_validation_error(schema)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way


def _replace_fastapi_s_validation_error(schema: dict[str, Any]) -> None:
    """FastAPI documents its own 422 wherever a route has parameters and names none; ours is a problem."""
    for item in schema["paths"].values():
        for operation in item.values():
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                operation["responses"]["422"] = answers("validation_failed")[422]
    for unused in ("HTTPValidationError", "ValidationError"):
        schema["components"]["schemas"].pop(unused, None)
