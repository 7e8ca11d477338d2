"""Read test files as the commands do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gleaner.cli.files.readers import format_of, read_documents
from gleaner.cli.files.rows import Fault, Format, Reading, Row


def read_items(
    path: Path, content: str | bytes | None = None, kind: Format | None = None, **options: Any
) -> list[Row | Fault]:
    """Write the content, if there is one, and return everything in the file."""
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_documents(path, format_of(path, kind), Reading(**options), path.name))


def list_faults(items: list[Row | Fault]) -> list[str]:
    """Return the faults as text."""
    return [str(item) for item in items if isinstance(item, Fault)]
