"""Building blocks of the API's bodies."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Timestamp = Annotated[str, Field(json_schema_extra={"format": "date-time"}, examples=["2026-03-01T09:30:00.000Z"])]


class Body(BaseModel):
    """Base of every body: frozen; may be validated from an object with the same attributes."""

    model_config = ConfigDict(frozen=True, from_attributes=True)
