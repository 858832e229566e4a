"""The base model of a server."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from adapterhub.serving.api.context import TheServer
from adapterhub.serving.failures import problems

router = APIRouter(prefix="/v1", tags=["adapters"])


class ModelView(BaseModel):
    """The model that adapters have to be for."""

    name: str = Field(description="What it is called to those outside")
    max_tokens: int = Field(description="Of one row that it reads")
    fingerprint: dict[str, Any] = Field(description="What tells it from other models, as hubs and checkpoints have it")


@router.get("/model", responses=problems())
def model(server: TheServer) -> ModelView:
    """The base model."""
    return ModelView(name=server.name, max_tokens=server.max_tokens, fingerprint=server.fingerprint.to_dict())
