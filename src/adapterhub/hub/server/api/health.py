"""Whether the server works, and how."""

import ipaddress

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import JSONResponse, PlainTextResponse, Response

import adapterhub
from adapterhub.hub.server import metrics, policy
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.api.problems import problems
from adapterhub.hub.server.context import TheActor, TheHub
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.readiness import Readiness

router = APIRouter(tags=["server"])
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")


@router.get("/health")
def health() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok", "version": adapterhub.__version__}


@router.get("/ready", responses={503: {"description": "The database or the store cannot be written to."}})
def ready(request: Request) -> JSONResponse:
    """The database and the store can be written to."""
    readiness: Readiness = request.app.state.readiness
    state = readiness.state()
    parts = {"database": state.database or "ok", "store": state.store or "ok"}
    return JSONResponse({"status": "ok" if state.ready else "not ready", **parts}, 200 if state.ready else 503)


@router.get("/metrics", response_class=PlainTextResponse, responses=problems(401, 403))
def measured(request: Request, hub: TheHub, actor: TheActor) -> Response:
    """Measurements for Prometheus, for administrators, and for this machine unless the request came by a proxy."""
    _check_may_measure(request, hub, actor)
    return Response(metrics.text(hub, request.app.state.readiness), media_type=CONTENT_TYPE_LATEST)


def _check_may_measure(request: Request, hub: Hub, actor: Actor) -> None:
    if hub.settings.open_metrics or _is_from_here(request):
        return
    policy.check_server_admin(actor)


def _is_from_here(request: Request) -> bool:
    try:
        local = request.client is not None and ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False
    return local and not any(name in request.headers for name in _FORWARDED)
