"""Bodies of label sets, as the API reads and returns them."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from gateway.schemas import Body, Timestamp


class LabelSetBody(Body):
    """A version of a label set, without its labels."""

    name: str
    object: Literal["label_set"] = "label_set"
    version: int = Field(description="Number of this version; that of the latest in a list.")
    versions: list[int] = Field(description="Numbers of the versions that are stored, at most ten.")
    created_at: Timestamp = Field(description="Time when this version was stored.")
    size: int = Field(description="Number of labels.")


class LabelSetWithLabels(LabelSetBody):
    """A version of a label set."""

    labels: dict[str, str | None] = Field(description="Label and description or null, in order.")


class LabelSetsPage(Body):
    """Your tenant's label sets, by name."""

    data: list[LabelSetBody]
    next_cursor: None = None


class LabelSetIn(Body):
    """The labels to store."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"labels": {"drug": "a medicine by name", "dose": None}}]}
    )

    labels: list[str] | dict[str, str | None] = Field(
        description="A list, or an object of label and description; at most 5,000 labels by default, and 1 MiB of "
        "JSON."
    )
