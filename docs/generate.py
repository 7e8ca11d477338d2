"""Generates reference pages: settings classes -> settings.md, error registries -> errors.md; lists runbooks.

`make docs` writes them; a test fails if a page and the code differ.
"""

from __future__ import annotations

import json
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from gateway.courier.app import CourierSettings
from gateway.http.problems import REGISTRY, Problem
from gateway.settings import GatewaySettings
from gateway.webhooks.settings import WebhookSettings
from jobs.queue.flower import FlowerSettings
from jobs.schema import DocumentErrorCode
from jobs.settings import Settings
from worker.settings import WorkerSettings

HERE = Path(__file__).parent
MARK = "<!-- Written by `make docs` from the code; edit the code. -->\n"

SETTINGS_LEAD = """\
Environment variables, read once when a process starts. An empty value counts as unset. An invalid value
stops the process with a message that names the variable.
"""
PROBLEMS_LEAD = """\
The response is `application/problem+json` (RFC 9457) with `type`, `title`, `status`, `detail`, `code`,
`request_id`, and with `errors` if positions in the request are wrong. Branch on `code`; `detail` is for
people and may change. The gateway serves a page for each code, with an example, at its `type`: `/problems/{code}`.
"""
DOCUMENTS_LEAD = """\
An accepted job has a result for every document. A failed one has `error` with `code`, `detail`, `retryable`; the
other documents are not affected. The job's `error_summary` counts the codes.
"""
RUNBOOKS_LEAD = """\
One runbook per alert: meaning, impact, diagnosis with the exact commands, mitigation. A page wakes the person on
call, a ticket waits for working hours; [escalation](../how-to/escalation.md) has the next levels.

The commands are for a release `gleaner` in the namespace `gleaner`; replace both where yours differ. Words in
capitals are for you to fill in. `gleaner` alone runs on your machine, with GLEANER_URL and an admin's key in
GLEANER_API_KEY. The tests try every command except those marked `not tried`, which need your cluster.
"""

SETTINGS: tuple[tuple[str, str, type[Settings]], ...] = (
    ("Every process", "Gateway, worker, courier and Flower read these.", Settings),
    ("Webhooks", "Gateway and courier read these; give both the same values.", WebhookSettings),
    ("Gateway", "`python -m gateway`.", GatewaySettings),
    ("Worker", "`python -m worker`.", WorkerSettings),
    ("Courier", "`python -m gateway.courier`.", CourierSettings),
    ("Flower", "`python -m jobs.queue.flower`.", FlowerSettings),
)

DOCUMENT_ERRORS: dict[DocumentErrorCode, tuple[str, str]] = {
    DocumentErrorCode.DOCUMENT_TOO_LARGE: (
        "The text exceeds the limit of bytes (in UTF-8) per document.",
        "Split the text into several documents.",
    ),
    DocumentErrorCode.INPUT_TOO_LONG: (
        (
            "The text needs more than one window and `long_text` is `reject`; or it needs more windows than "
            "the limit (labels multiply them); or a label is too long for the model."
        ),
        "Use `long_text: window`, fewer or shorter labels, or split the text.",
    ),
    DocumentErrorCode.TOO_COSTLY: (
        (
            "Cutting the text and merging its entities exceeded the limit of processor time per document "
            "(GLEANER_DOCUMENT_BUDGET_S)."
        ),
        "Split the text, or raise the thresholds.",
    ),
    DocumentErrorCode.TOO_MANY_ENTITIES: (
        "More entities pass the thresholds than a result can hold, so the text cannot be redacted completely.",
        "Raise the thresholds, or split the text.",
    ),
    DocumentErrorCode.EMPTY_TEXT: (
        "The text is empty or only white space.",
        "Remove the document.",
    ),
    DocumentErrorCode.INVALID_TEXT: (
        "The text contains half of a surrogate pair, which UTF-8 cannot encode.",
        "Clean the text at its source.",
    ),
    DocumentErrorCode.UNSUPPORTED_TASK: (
        "The model of the worker cannot do what was asked, such as relations or a classification.",
        "Name a model whose `tasks` in GET /v1/models include it.",
    ),
    DocumentErrorCode.INVALID_DOCUMENT: (
        (
            "With `on_bad_line=fail_document`, a line of NDJSON that is not a document; the detail has its number. "
            "Or the model can read none of the labels."
        ),
        "Correct the document and submit it again.",
    ),
    DocumentErrorCode.OUT_OF_MEMORY: (
        "The document did not fit the worker's memory even alone.",
        "Retry on a larger worker, or split the text.",
    ),
    DocumentErrorCode.INFERENCE_FAILED: (
        "The model raised an error on this document.",
        "Retry once; if it fails again, report it with the job id and the document's index.",
    ),
    DocumentErrorCode.WORKER_LOST: (
        "Three worker processes died while they ran this document with nothing else.",
        "Check the worker's log and memory; the document may be the cause.",
    ),
}


def render_settings() -> str:
    """Return docs/reference/settings.md."""
    parts = [
        MARK,
        "# Settings\n",
        SETTINGS_LEAD,
    ]
    for title, lead, cls in SETTINGS:
        parts += [f"## {title}\n", lead + "\n", _format_table(("Variable", "Default", "Meaning"), _list_rows(cls))]
    return "\n".join(parts)


def render_errors() -> str:
    """Return docs/reference/errors.md."""
    parts = [
        MARK,
        "# Errors\n",
        "## A request is refused\n",
        PROBLEMS_LEAD,
    ]
    problems = sorted(REGISTRY.items(), key=lambda item: item[1].status)
    rows = ((str(kind.status), f"`{code}`", kind.meaning, kind.remedy) for code, kind in problems)
    parts += [_format_table(("Status", "Code", "Meaning", "What to do"), rows)]
    example = Problem(
        "validation_failed", "/documents/3/text is required", [("/documents/3/text", "is required")]
    ).to_dict("req-1")
    parts += ["An example:\n", f"```json\n{json.dumps(example, indent=2)}\n```\n"]
    parts += [
        "## A document fails\n",
        DOCUMENTS_LEAD,
    ]
    documents = (
        (f"`{code}`", "yes" if code.is_retryable else "no", *DOCUMENT_ERRORS[code]) for code in DocumentErrorCode
    )
    parts += [_format_table(("Code", "Retryable", "Meaning", "What to do"), documents)]
    return "\n".join(parts)


def render_runbooks() -> str:
    """Return docs/runbooks/README.md: every runbook with its urgency and the first sentence of its meaning."""
    rows = []
    for page in sorted((HERE / "runbooks").glob("Gleaner*.md")):
        text = page.read_text(encoding="utf-8")
        urgency = text.splitlines()[2].split(",")[0].lower()
        meaning = text.partition("## Meaning\n\n")[2].partition(". ")[0].partition("\n")[0]
        rows.append((f"[{page.stem}]({page.name})", urgency, meaning.rstrip(".") + "."))
    return "\n".join(
        (MARK, "# Runbooks\n", RUNBOOKS_LEAD, _format_table(("Alert", "Urgency", "Meaning"), iter(rows)))
    )


PAGES = {
    "reference/settings.md": render_settings,
    "reference/errors.md": render_errors,
    "runbooks/README.md": render_runbooks,
}


def _list_rows(cls: type[Settings]) -> Iterator[tuple[str, ...]]:
    parents = [other.model_fields for _, _, other in SETTINGS if other is not cls and issubclass(cls, other)]
    for name, field in cls.model_fields.items():
        if any(name in fields and field.default == fields[name].default for fields in parents):
            continue
        yield f"`GLEANER_{name.upper()}`", _format_default(field), _describe(field)


def _format_default(field: FieldInfo) -> str:
    value = field.default
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, tuple):
        value = ",".join(map(str, value))
    return f"`{value}`" if value not in (None, "") else "none"


def _describe(field: FieldInfo) -> str:
    text = field.description or ""
    choices = [f"`{choice}`" for choice in _list_choices(field.annotation)]
    return text if all(choice in text for choice in choices) else f"{text} One of {', '.join(choices)}."


def _list_choices(annotation: Any) -> list[str]:
    if typing.get_origin(annotation) is typing.Literal:
        return [str(choice) for choice in typing.get_args(annotation)]
    if isinstance(annotation, types.UnionType):
        return [choice for part in typing.get_args(annotation) for choice in _list_choices(part)]
    return []


def _format_table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(_escape_cell(cell) for cell in line)} |\n" for line in lines)


def _escape_cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|")


def main() -> None:
    """Write the pages."""
    for name, page in PAGES.items():
        (HERE / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
