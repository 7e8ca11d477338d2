"""The OpenAPI document: request bodies that routes parse themselves, and the errors of each route."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import Field
from pydantic.json_schema import models_json_schema

from gateway.errors import ErrorCode
from gateway.http.problems import MEDIA_TYPE, REGISTRY, build_example
from gateway.schemas import Body
from gateway.schemas.requests import DocumentIn, JobHead, JobRequest

SUMMARY = "Entity extraction with GLiNER as an asynchronous batch service"
DESCRIPTION = """
Submit texts and labels, get a job id at once; poll it, wait on it, or read results while it runs.

- Send `Authorization: Bearer gl_…` or `X-API-Key: gl_…`.
- An accepted job always ends, with one typed outcome per document; an invalid document fails alone.
- Errors are `application/problem+json` with a stable `code`.
- Send an `Idempotency-Key` to repeat a POST safely.
"""

TAGS = [
    {"name": "jobs", "description": "Submit, list, follow, read, cancel, retry and delete jobs."},
    {"name": "label sets", "description": "Labels that are stored once and named by jobs."},
    {"name": "webhooks", "description": "Webhook endpoints and delivery history."},
    {"name": "models", "description": "Available models, and your limits."},
    {"name": "operations", "description": "State of the service; admins only."},
    {"name": "health", "description": "Probes; no key required."},
]

ALWAYS: tuple[ErrorCode, ...] = (
    "unauthenticated",
    "forbidden",
    "csrf_refused",
    "https_required",
    "rate_limited",
    "internal_error",
    "keys_unavailable",
    "storage_unavailable",
)
BODY: tuple[ErrorCode, ...] = (
    "malformed_json",
    "bad_content_encoding",
    "request_timeout",
    "payload_too_large",
    "unsupported_media_type",
    "validation_failed",
)
"""Errors of every route that reads a body."""
SUBMIT: tuple[ErrorCode, ...] = (
    *BODY,
    "idempotency_in_progress",
    "too_many_documents",
    "unknown_model",
    "unsupported_task",
    "webhook_url_forbidden",
    "endpoint_not_found",
    "label_set_not_found",
    "idempotency_key_reused",
    "quota_exceeded",
    "overloaded",
    "job_not_found",  # a repeated request waits for its job, which may have been removed since
    "job_purged",
)
JOB: tuple[ErrorCode, ...] = ("job_not_found", "job_purged")

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
                    "description": "A JobHead on the first line, then one DocumentIn per line.",
                },
                "example": '{"labels":["person","city"]}\n{"id":"a","text":"Grace Hopper lived in New York."}\n',
            },
        },
    }
}


class ProblemPlace(Body):
    """A violation in a request."""

    pointer: str = Field(
        description="JSON Pointer into the body, or `line:n` with a pointer into that line, or `query:name`, "
        "`path:name`, `header:Name`."
    )
    detail: str


class ProblemBody(Body):
    """RFC 9457 problem details; clients should branch on `code`."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[ProblemPlace] = Field([], description="All violations in the request; may be absent.")


def header_parameter(name: str, description: str, example: str) -> dict[str, Any]:
    """Return the OpenAPI parameter of a request header that a route reads itself."""
    return {
        "name": name,
        "in": "header",
        "required": False,
        "description": description,
        "schema": {"type": "string"},
        "example": example,
    }


IDEMPOTENCY_KEY = header_parameter(
    "Idempotency-Key",
    "Makes the request safe to repeat for 24 h: the first response is replayed with `Idempotency-Replayed: true`.",
    "5f0c6f9e-import-2026-03-01",
)
CONTENT_ENCODING = header_parameter("Content-Encoding", "`gzip` or `zstd` if the body is compressed.", "gzip")
PREFER = header_parameter(
    "Prefer", "`wait=n`: respond when the job ends, or after n seconds (at most 60).", "wait=10"
)


def error_responses(*codes: ErrorCode) -> dict[int | str, dict[str, Any]]:
    """Return the error responses of a route by status, with an example for each code."""
    responses: dict[int | str, dict[str, Any]] = {}
    for code in (*codes, *ALWAYS):
        kind = REGISTRY[code]
        response = responses.setdefault(
            kind.status,
            {
                "description": "",
                "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemBody"}, "examples": {}}},
            },
        )
        response["description"] = ", ".join(
            filter(None, (response["description"], f"`{code}`: {kind.title.lower()}"))
        )
        example = {"summary": kind.title, "value": build_example(code)}
        response["content"][MEDIA_TYPE]["examples"][code] = example
    return responses


def install_openapi(app: FastAPI) -> None:
    """Make the app serve this document."""

    def build_document() -> dict[str, Any]:
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
            _, bodies = models_json_schema(
                [(model, "validation") for model in (DocumentIn, JobHead, JobRequest, ProblemBody)],
                ref_template="#/components/schemas/{model}",
            )
            components.update(bodies["$defs"])
            _replace_validation_errors(schema)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = build_document  # type: ignore[method-assign]  # as FastAPI documents it


def _replace_validation_errors(schema: dict[str, Any]) -> None:
    """Replace FastAPI's own 422, which it adds to routes with parameters, by the service's problem."""
    for item in schema["paths"].values():
        for operation in item.values():
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                operation["responses"]["422"] = error_responses("validation_failed")[422]
    for unused in ("HTTPValidationError", "ValidationError"):
        schema["components"]["schemas"].pop(unused, None)
