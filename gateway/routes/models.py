"""/v1/models: what jobs may ask for."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from gateway import openapi
from gateway.auth import Caller, require
from gateway.schemas import ModelsPage
from gateway.services import ServicesDep
from gateway.views import model_body
from jobs import ledger
from jobs.keys import Role

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.get(
    "",
    operation_id="list_models",
    summary="List the models",
    responses={200: {"description": "The default model first."}, **openapi.answers()},
)
async def list_models(
    services: ServicesDep, _caller: Annotated[Caller, Depends(require(Role.viewer))]
) -> ModelsPage:
    """The models of this service, with their live workers; one without workers still takes jobs."""
    names = services.settings.models
    found = await services.ledger.run(ledger.models(names))
    return ModelsPage(data=[model_body(model, default=model.name == names[0]) for model in found])
