"""Building blocks of the API's bodies."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Timestamp = Annotated[str, Field(json_schema_extra={"format": "date-time"}, examples=["2026-03-01T09:30:00.000Z"])]


class Body(BaseModel):
    """Base of every body: frozen."""

    model_config = ConfigDict(frozen=True)


def json_schema(models: list[type[BaseModel]]) -> dict[str, Any]:
    """Return the models' JSON schemas by name, with references as in OpenAPI."""
    schemas: dict[str, Any] = {}
    for model in models:
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(schema.pop("$defs", {}))
        schemas[model.__name__] = schema
    return schemas
