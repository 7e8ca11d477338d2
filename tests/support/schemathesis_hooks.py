"""Serialisation of JSON lines for schemathesis."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def lines(_context: Any, value: Any) -> bytes:
    """Return the schema's string unchanged."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
