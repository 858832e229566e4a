"""Whether the server works, and how."""

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

import adapterhub
from adapterhub.http.problems import Problem, described
from adapterhub.serving.api.context import TheServer, server_of
from adapterhub.serving.failures import problems

router = APIRouter(tags=["server"])


class State(BaseModel):
    """How it is."""

    status: str
    version: str


@router.get("/health")
def health() -> State:
    """The process answers."""
    return State(status="ok", version=adapterhub.__version__)


@router.get("/ready", responses={503: described(Problem)})
async def ready(request: Request) -> State:
    """The model is there, and requests are answered."""
    server_of(request).check_ready()
    return State(status="ok", version=adapterhub.__version__)


@router.get("/metrics", response_class=PlainTextResponse, responses=problems())
def measured(server: TheServer) -> Response:
    """Measurements for Prometheus."""
    return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)
