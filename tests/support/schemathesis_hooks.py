"""What schemathesis has to be told: how lines are written."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def lines(_context: Any, value: Any) -> bytes:
    """The schema's string, as it is."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
