"""Adapters: all that fit, and each one in full."""

from typing import Annotated

from fastapi import Path, Query, Request
from pydantic import BaseModel, Field

from adapterhub.hub.server import likes, repositories, signatures
from adapterhub.hub.server.api.dossier import AdapterView
from adapterhub.hub.server.api.narrowing import Narrowed, Text
from adapterhub.hub.server.api.problems import problems
from adapterhub.hub.server.api.routing import router
from adapterhub.hub.server.api.views import Listing
from adapterhub.hub.server.catalogue import details
from adapterhub.hub.server.catalogue.search import MOST, Sort, count, search
from adapterhub.hub.server.context import TheActor, TheHub, public_url

routes = router("adapters")

Owner = Annotated[str, Path(max_length=96, description="A user or an organisation")]
Name = Annotated[str, Path(max_length=96, description="Of the repository")]


class Search(Narrowed):
    """What to list, in which order, and from where on."""

    sort: Sort | None = Field(None, description="By default relevance with words, downloads without")
    limit: int = Field(20, ge=1, le=MOST)
    cursor: str | None = Field(None, max_length=1024, description="`next` of the page before")


class Found(BaseModel):
    """A page of a list; ``next`` is the cursor of the page after it, None at the end."""

    items: list[Listing]
    next: str | None
    total: int


class Liked(BaseModel):
    """How many like an adapter, and whether the one who asks is one of them."""

    likes: int
    liked: bool


class Withdrawal(BaseModel):
    """Why an adapter should not be used any more."""

    reason: str = Field(min_length=1, max_length=2000)


class Withdrawn(BaseModel):
    """Whether an adapter was withdrawn, and why."""

    id: str
    withdrawn: str | None


@routes.get("/adapters", responses=problems(404))
def adapters(hub: TheHub, actor: TheActor, wanted: Annotated[Search, Query()]) -> Found:
    """The adapters that fit, a page at a time."""
    with hub.database.read() as session:
        filters = wanted.filters(session)
        page = search(
            session, actor, filters, words=wanted.q, sort=wanted.sort, limit=wanted.limit, after=wanted.cursor
        )
        total = count(session, actor, filters, words=wanted.q)
        return Found(items=[Listing.of(one) for one in page.adapters], next=page.next, total=total)


@routes.get("/adapters/{owner}/{name}", responses=problems(404))
def adapter(
    request: Request,
    hub: TheHub,
    actor: TheActor,
    owner: Owner,
    name: Name,
    revision: Annotated[Text, Query(description="A branch, a tag or a commit")] = repositories.MAIN,
) -> AdapterView:
    """All that is known of an adapter at a revision: what it is, its files, versions, scores and card."""
    with hub.database.read() as session:
        found = details.of(session, actor, owner, name, revision)
        signed = signatures.of(session, hub, found.repository, found.commit)
        return AdapterView.of(found, details.card(hub, found), public_url(request), signed)


@routes.put("/adapters/{owner}/{name}/like", responses=problems(401, 403, 404))
def like(hub: TheHub, actor: TheActor, owner: Owner, name: Name) -> Liked:
    """Like it."""
    return _like(hub, actor, owner, name, True)


@routes.delete("/adapters/{owner}/{name}/like", responses=problems(401, 403, 404))
def unlike(hub: TheHub, actor: TheActor, owner: Owner, name: Name) -> Liked:
    """Like it no longer."""
    return _like(hub, actor, owner, name, False)


@routes.post("/adapters/{owner}/{name}/withdraw", responses=problems(401, 403, 404))
def withdraw(hub: TheHub, actor: TheActor, owner: Owner, name: Name, why: Withdrawal) -> Withdrawn:
    """Say that it should not be used any more: no identifier leads to it but one that names a commit."""
    return _withdraw(hub, actor, owner, name, why.reason)


@routes.delete("/adapters/{owner}/{name}/withdraw", responses=problems(401, 403, 404))
def restore(hub: TheHub, actor: TheActor, owner: Owner, name: Name) -> Withdrawn:
    """Take that back."""
    return _withdraw(hub, actor, owner, name, None)


def _like(hub: TheHub, actor: TheActor, owner: str, name: str, likes_it: bool) -> Liked:
    with hub.database.write() as session:
        repository = repositories.find(session, actor, owner, name)
        likes.like(session, actor, repository, likes_it)
        return Liked(likes=repository.likes, liked=likes_it)


def _withdraw(hub: TheHub, actor: TheActor, owner: str, name: str, reason: str | None) -> Withdrawn:
    with hub.database.write() as session:
        repository = repositories.find(session, actor, owner, name)
        repositories.withdraw(session, actor, repository, reason)
        return Withdrawn(id=repository.full_name, withdrawn=repository.withdrawn)
