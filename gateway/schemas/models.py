"""Bodies of models, as the API returns them."""

from __future__ import annotations

from pydantic import Field

from gateway.schemas.base import Body


class ShareBody(Body):
    """One model of a split, and its weight relative to the others."""

    model: str
    weight: int


class ModelLimits(Body):
    """Limits of one pass of a model; longer documents and more labels are read in several passes."""

    words_per_window: int = Field(description="Words of a window, as the model splits them; punctuation counts.")
    tokens_per_row: int = Field(description="Tokens of labels and text together.")
    words_per_entity: int = Field(description="Most words of an entity.")
    labels: int = Field(description="Most labels of a document.")


class ModelBody(Body):
    """A model that jobs may name; without workers its jobs wait."""

    name: str
    default: bool
    model: str = Field(
        description="The model that runs your jobs with this name, and has the workers below; may differ if split."
    )
    split: list[ShareBody] = Field(
        description="Models that this name is split over, each tenant staying with one; empty: no split."
    )
    available: bool = Field(description="Whether at least one worker has loaded it.")
    workers: int
    revision: str | None
    default_threshold: float | None = Field(
        description="Threshold if a request sets none; null until a worker has reported it."
    )
    limits: ModelLimits | None = Field(description="Null until a worker has reported them.")
    reason: str | None = Field(description="Reason why its workers cannot start, or null.")
    open_jobs: int
    open_shards: int


class ModelsPage(Body):
    """The models of this service, the default first."""

    data: list[ModelBody]
    next_cursor: None = None
