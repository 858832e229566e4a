"""Addresses of the site that AdapterHub had: they lead to where the same is now."""

from fastapi import APIRouter
from sqlalchemy import select
from starlette.responses import RedirectResponse, Response

from adapterhub.errors import HubNotFoundError
from adapterhub.hub.server import policy
from adapterhub.hub.server.catalogue import taxonomy
from adapterhub.hub.server.context import TheHub
from adapterhub.hub.server.database import Alias, Repository
from adapterhub.hub.server.web.rendering import address, segment
from adapterhub.hub.server.web.repository_view import path_of
from adapterhub.hub.server.web.visitor import TheVisitor

router = APIRouter()
_KINDS = {"text_task": "tasks", "text_lang": "languages"}


@router.get("/adapters/")
@router.get("/adapters")
def all_adapters() -> Response:
    """The page of the library."""
    return _moved("/docs")


@router.get("/adapters/{organisation}/{file}/")
@router.get("/adapters/{organisation}/{file}")
def adapter(visitor: TheVisitor, hub: TheHub, organisation: str, file: str) -> Response:
    """The page of an entry."""
    spec = f"@{organisation}/{file}".lower()
    with hub.database.read() as session:
        found = session.scalar(
            select(Repository)
            .join(Alias, Alias.repository_id == Repository.id)
            .where(Alias.spec == spec, policy.visible(visitor.actor))
        )
        if found is None:
            raise HubNotFoundError(f"AdapterHub had no adapter {organisation}/{file}, or it was not brought here")
        return _moved(path_of(found))


@router.get("/explore/{kind}/")
def kind(kind: str) -> Response:
    """Tasks or languages."""
    return _moved(f"/explore/{_KINDS.get(kind, segment(kind))}")


@router.get("/explore/{task}/{subtask}/")
@router.get("/explore/{task}/{subtask}/{family}/")
@router.get("/explore/{task}/{subtask}/{family}/{model:path}")
def dataset(hub: TheHub, task: str, subtask: str, family: str = "", model: str = "") -> Response:
    """A data set, perhaps for one base model."""
    if task in _KINDS.values():  # the address of today with a slash at its end
        return _moved("/".join(["/explore", task, *map(segment, filter(None, (subtask, family)))]))
    with hub.database.read() as session:
        found = taxonomy.task(session, task)
        path = f"/explore/{found.kind}s/{segment(found.slug)}/{segment(subtask)}"
    return _moved(address(path, base=model.strip("/")))


def _moved(path: str) -> Response:
    return RedirectResponse(path, 308)
