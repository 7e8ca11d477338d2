"""/v1/models: the available models."""

from __future__ import annotations

from fastapi import APIRouter

from gateway.http import openapi
from gateway.reading.views import build_model_body
from gateway.routes.dependencies import ServicesDep, Viewer
from gateway.schemas.models import ModelsPage
from jobs import ledger

router = APIRouter(prefix="/v1/models", tags=["models"])


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
        build_model_body(
            name,
            views[models.choose_model(name, caller.tenant)],
            models.splits.get(name, {}),
            default=name == models.names[0],
            max_labels=services.settings.max_labels,
        )
        for name in models.names
    ]
    return ModelsPage(data=data)
