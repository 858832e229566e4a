"""Repositories are made, deleted, moved, set, liked."""

from typing import Any, Literal

from fastapi import Request
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from adapterhub.errors import HubConflictError
from adapterhub.hub.ids import RepositoryId
from adapterhub.hub.server import accounts, likes, repositories
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.context import TheActor, TheHub, public_url
from adapterhub.hub.server.errors import NotSignedInError
from adapterhub.hub.server.protocol import describing
from adapterhub.hub.server.protocol.absent import not_here
from adapterhub.hub.server.protocol.routing import router

Visibility = Literal["public", "private", "protected"]

routes = router()


class Named(BaseModel):
    """A repository as requests about all of them name it; without an organisation it is the user's own."""

    name: str
    organization: str | None = None
    type: str | None = None


class New(Named):
    """A repository to be made; later clients say ``visibility``, earlier ones ``private``."""

    visibility: Visibility | None = None
    private: bool | None = None


class Move(BaseModel):
    """The old and the new name of a repository."""

    fromRepo: str  # noqa: N815
    toRepo: str  # noqa: N815
    type: str | None = None


class Changes(BaseModel):
    """What may be set."""

    visibility: Visibility | None = None
    private: bool | None = None
    gated: Literal["auto", "manual", False] | None = None


@routes.post("/api/repos/create")
def create(request: Request, hub: TheHub, actor: TheActor, new: New) -> Response:
    """Make a repository; if there is one, the answer (409) says where, and the client decides what that means."""
    _check_type(new.type)
    owner, name = _owner_and_name(actor, new)
    status, error = 200, None
    with hub.database.write() as session:
        try:
            private = _private(new.visibility, new.private)
            made = repositories.create(session, actor, owner, name, private=bool(private))
        except HubConflictError as conflict:
            made, status, error = repositories.find(session, actor, owner, name), 409, str(conflict)
        url, full_name, id_ = f"{public_url(request)}/{made.full_name}", made.full_name, f"{made.id:024x}"
    answer = {"url": url, "name": full_name, "id": id_}
    return JSONResponse(answer if error is None else answer | {"error": error}, status)


@routes.delete("/api/repos/delete")
def delete(hub: TheHub, actor: TheActor, named: Named) -> dict[str, Any]:
    """Delete a repository."""
    _check_type(named.type)
    owner, name = _owner_and_name(actor, named)
    with hub.database.write() as session:
        repositories.remove(session, actor, repositories.find(session, actor, owner, name))
    return {}


@routes.post("/api/repos/move")
def move(request: Request, hub: TheHub, actor: TheActor, move: Move) -> dict[str, Any]:
    """Give a repository another name or owner."""
    _check_type(move.type)
    old, new = RepositoryId.parse(move.fromRepo), RepositoryId.parse(move.toRepo)
    with hub.database.write() as session:
        repository = repositories.find(session, actor, old.owner, old.name)
        repositories.move(session, actor, repository, new.owner, new.name)
        return {"url": f"{public_url(request)}/{repository.full_name}"}


@routes.put("/api/models/{owner}/{name}/settings")
def set_up(hub: TheHub, actor: TheActor, owner: str, name: str, changes: Changes) -> dict[str, Any]:
    """Show a repository to all, or hide it."""
    if changes.gated:
        raise not_here("gated repositories: make it private")
    with hub.database.write() as session:
        repository = repositories.find(session, actor, owner, name)
        private = _private(changes.visibility, changes.private)
        if private is not None:
            repositories.set_private(session, actor, repository, private)
        return {"private": repository.private, "gated": False}


@routes.post("/api/models/{owner}/{name}/like")
def like(hub: TheHub, actor: TheActor, owner: str, name: str) -> dict[str, Any]:
    """Like a repository."""
    with hub.database.write() as session:
        likes.like(session, actor, repositories.find(session, actor, owner, name), True)
    return {}


@routes.delete("/api/models/{owner}/{name}/like")
def unlike(hub: TheHub, actor: TheActor, owner: str, name: str) -> dict[str, Any]:
    """Do not like it any more."""
    with hub.database.write() as session:
        likes.like(session, actor, repositories.find(session, actor, owner, name), False)
    return {}


@routes.get("/api/models/{owner}/{name}/likers")
def likers(hub: TheHub, actor: TheActor, owner: str, name: str) -> list[dict[str, Any]]:
    """Who likes a repository."""
    with hub.database.read() as session:
        found = likes.likers(session, repositories.find(session, actor, owner, name))
        return [{"user": one.name, "fullname": one.full_name or one.name, "type": "user"} for one in found]


@routes.get("/api/users/{user}/likes")
def liked(hub: TheHub, actor: TheActor, user: str) -> list[dict[str, Any]]:
    """What a user likes."""
    with hub.database.read() as session:
        found = likes.liked(session, actor, accounts.account(session, user))
        return [
            {"createdAt": describing.time(its_like.created), "repo": {"name": one.full_name, "type": "model"}}
            for one, its_like in found
        ]


def _owner_and_name(actor: Actor, named: Named) -> tuple[str, str]:
    if actor.id is None:
        raise NotSignedInError("send a token of this hub to make or delete repositories")
    owner, _, name = named.name.rpartition("/")
    return named.organization or owner or actor.name, name


def _check_type(kind: str | None) -> None:
    if kind not in (None, "model"):
        raise not_here(f"repositories of the type {kind!r}: it holds models (adapters) alone")


def _private(visibility: Visibility | None, private: bool | None) -> bool | None:
    return private if visibility is None else visibility != "public"
