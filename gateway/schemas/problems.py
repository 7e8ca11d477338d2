"""Bodies of errors."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from gateway.schemas.base import Body


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


class ProblemKind(Body):
    """An error code of this API."""

    code: str
    status: int
    title: str
    meaning: str
    remedy: str
    example: dict[str, Any] = Field(description="A response with this code.")
