"""/v1/models: the available models."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter
from pydantic import Field

from gateway.http import openapi
from gateway.routes.dependencies import ServicesDep, Viewer
from gateway.schemas import Body
from gateway.settings import GatewaySettings
from jobs import ledger
from jobs.ledger import ModelStats
from jobs.tasks import Task

router = APIRouter(prefix="/v1/models", tags=["models"])


class ShareBody(Body):
    """A model of a split and its weight relative to the others."""

    model: str
    weight: int


class ModelLimits(Body):
    """Limits of one pass of a model; longer documents and more labels are read in several passes."""

    words_per_window: int = Field(description="Words of a window, as the model splits them; punctuation counts.")
    tokens_per_row: int = Field(description="Tokens of labels and text together.")
    words_per_entity: int = Field(description="Most words of an entity.")
    labels: int = Field(description="Most labels of a job or of a document.")


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
    tasks: list[Task] | None = Field(description="Tasks that it can do; null until a worker has reported them.")
    limits: ModelLimits | None = Field(description="Null until a worker has reported them.")
    reason: str | None = Field(description="Reason why its workers cannot start, or null.")
    open_jobs: int
    open_shards: int


class ModelsPage(Body):
    """The models of this service, the default first."""

    data: list[ModelBody]
    next_cursor: None = None


@router.get(
    "",
    operation_id="list_models",
    summary="List the models",
    responses={200: {"description": "The default model first."}, **openapi.error_responses()},
)
async def list_models(services: ServicesDep, caller: Viewer) -> ModelsPage:
    """List the models, each with the workers of the model that would run your jobs; jobs wait if it has none."""
    models = services.settings.models
    views = {view.name: view for view in await services.ledger.run(ledger.read_models(models.served))}
    data = [
        _build_body(
            name,
            views[models.choose_model(name, caller.tenant)],
            models.splits.get(name, {}),
            default=name == models.names[0],
            settings=services.settings,
        )
        for name in models.names
    ]
    return ModelsPage(data=data)


def _build_body(
    name: str, model: ModelStats, shares: Mapping[str, int], *, default: bool, settings: GatewaySettings
) -> ModelBody:
    """Return a model name as the API serves it; `model` runs the caller's jobs, `shares` is the name's split."""
    facts = model.facts
    limits = None
    if facts is not None:
        limits = ModelLimits(
            words_per_window=facts.words_per_window,
            tokens_per_row=facts.tokens_per_row,
            words_per_entity=facts.words_per_entity,
            labels=settings.label_limit(facts.max_labels),
        )
    return ModelBody(
        name=name,
        default=default,
        model=model.name,
        split=[ShareBody(model=share, weight=weight) for share, weight in shares.items()],
        available=model.workers > 0,
        workers=model.workers,
        revision=model.revision,
        default_threshold=None if facts is None else facts.default_threshold,
        tasks=None if facts is None else list(facts.tasks),
        limits=limits,
        reason=model.reason,
        open_jobs=model.open_jobs,
        open_shards=model.open_shards,
    )
