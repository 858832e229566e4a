"""What is said of one repository."""

from typing import Annotated, Any

from fastapi import Query, Request
from sqlalchemy import select
from sqlalchemy.orm import Session

from adapterhub.hub.server import policy, repositories
from adapterhub.hub.server.context import TheActor, TheHub
from adapterhub.hub.server.database import Adapter, AdapterTag
from adapterhub.hub.server.errors import RepositoryNotFoundError
from adapterhub.hub.server.protocol import describing, upstream
from adapterhub.hub.server.protocol.cards import card_data
from adapterhub.hub.server.protocol.routing import Flag, router

_ALWAYS = ("_id", "id", "modelId")

routes = router()
Expand = Annotated[list[str], Query(default_factory=list)]


@routes.get("/api/models/{owner}/{name}")
@routes.get("/api/models/{owner}/{name}/revision/{rev}")
def info(
    request: Request,
    hub: TheHub,
    actor: TheActor,
    owner: str,
    name: str,
    expand: Expand,
    rev: str = repositories.MAIN,
    blobs: Flag = False,
) -> Any:
    """A repository as its main branch, or another revision of it, is."""
    try:
        with hub.database.read() as session:
            repository = repositories.find(session, actor, owner, name)
            commit = repositories.revision(session, repository, rev)
            files = repositories.files(commit)
            adapter = session.get(Adapter, repository.id)
            made = describing.model(repository, adapter, own_tags(session, repository.id), commit.oid)
    except RepositoryNotFoundError as missing:
        return upstream.describe(request, hub, f"{owner}/{name}", missing)
    made["siblings"] = [describing.sibling(path, file, blobs) for path, file in sorted(files.items())]
    if (card := card_data(hub, files)) is not None:
        made["cardData"] = card
        if isinstance(task := card.get("pipeline_tag"), str):
            made["pipeline_tag"] = task
    return chosen(made, expand)


@routes.get("/api/models/{owner}/{name}/auth-check")
@routes.get("/api/models/{owner}/{name}/auth-check/{access}")
def auth_check(hub: TheHub, actor: TheActor, owner: str, name: str, access: str = "read") -> dict[str, Any]:
    """Nothing, if the client may read (or ``write``) the repository; else the error says what is missing."""
    with hub.database.read() as session:
        repository = repositories.find(session, actor, owner, name)
        if access == "write":
            policy.check_write(session, actor, repository)
    return {}


def own_tags(session: Session, repository_id: int) -> list[str]:
    """The tags in the card of a repository."""
    return list(session.scalars(select(AdapterTag.tag).where(AdapterTag.repository_id == repository_id)))


def chosen(model: dict[str, Any], expand: list[str]) -> dict[str, Any]:
    """The properties that were asked for; without a choice all but the one that has to be."""
    if not expand:
        return {name: value for name, value in model.items() if name != "baseModels"}
    return {name: value for name, value in model.items() if name in _ALWAYS or name in expand}
