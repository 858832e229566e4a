"""Branches, tags, and the log of commits."""

from typing import Any

from fastapi import Request
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from adapterhub.hub.server import repositories
from adapterhub.hub.server.context import TheActor, TheHub
from adapterhub.hub.server.protocol import describing
from adapterhub.hub.server.protocol.routing import next_page, router

_PAGE = 100

routes = router()


class NewBranch(BaseModel):
    """What a branch begins at."""

    startingPoint: str | None = None  # noqa: N815


class NewTag(BaseModel):
    """A tag and what is said of it."""

    tag: str
    message: str | None = None


@routes.get("/api/models/{owner}/{name}/refs")
def refs(hub: TheHub, actor: TheActor, owner: str, name: str) -> dict[str, Any]:
    """All branches and tags."""
    with hub.database.read() as session:
        return describing.refs(repositories.refs(session, repositories.find(session, actor, owner, name)))


@routes.get("/api/models/{owner}/{name}/commits/{rev}")
def commits(
    request: Request, hub: TheHub, actor: TheActor, owner: str, name: str, rev: str, after: str | None = None
) -> Response:
    """The log, the newest commit first, in pages; ``after`` is the last commit of the page before."""
    with hub.database.read() as session:
        repository = repositories.find(session, actor, owner, name)
        start = repositories.revision(session, repository, after or rev)
        log = repositories.history(session, repository, start)
        if after is not None:
            next(log)
        page = [describing.logged(commit) for commit, _ in zip(log, range(_PAGE), strict=False)]
        more = next(log, None) is not None
    return JSONResponse(page, headers=next_page(request, after=page[-1]["id"]) if more else None)


@routes.post("/api/models/{owner}/{name}/branch/{branch}")
def add_branch(
    hub: TheHub, actor: TheActor, owner: str, name: str, branch: str, new: NewBranch | None = None
) -> dict[str, Any]:
    """Make a branch."""
    start = (new and new.startingPoint) or repositories.MAIN
    with hub.database.write() as session:
        repositories.add_branch(session, actor, repositories.find(session, actor, owner, name), branch, start)
    return {}


@routes.delete("/api/models/{owner}/{name}/branch/{branch}")
def remove_branch(hub: TheHub, actor: TheActor, owner: str, name: str, branch: str) -> dict[str, Any]:
    """Delete a branch."""
    with hub.database.write() as session:
        repository = repositories.find(session, actor, owner, name)
        repositories.remove_ref(session, actor, repository, "branch", branch)
    return {}


@routes.post("/api/models/{owner}/{name}/tag/{rev}")
def add_tag(hub: TheHub, actor: TheActor, owner: str, name: str, rev: str, new: NewTag) -> dict[str, Any]:
    """Tag a revision."""
    with hub.database.write() as session:
        repository = repositories.find(session, actor, owner, name)
        repositories.add_tag(session, actor, repository, new.tag, rev, new.message or "")
    return {}


@routes.delete("/api/models/{owner}/{name}/tag/{tag}")
def remove_tag(hub: TheHub, actor: TheActor, owner: str, name: str, tag: str) -> dict[str, Any]:
    """Delete a tag."""
    with hub.database.write() as session:
        repository = repositories.find(session, actor, owner, name)
        repositories.remove_ref(session, actor, repository, "tag", tag)
    return {}
