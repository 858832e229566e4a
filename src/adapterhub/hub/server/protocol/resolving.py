"""Files by name and revision: what every download asks for."""

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from adapterhub.hub.server import repositories
from adapterhub.hub.server.context import actor_of, downloads_of, hub_of
from adapterhub.hub.server.errors import EntryNotFoundError, RepositoryNotFoundError
from adapterhub.hub.server.protocol import upstream
from adapterhub.hub.server.protocol.routing import PlainRoute
from adapterhub.hub.server.protocol.sending import is_first, send

_WEIGHTS = ".safetensors"


def add_routes(app: FastAPI) -> None:
    """Add the route before all others, as one of Starlette: it is the one that has to be fast."""
    app.router.routes.insert(0, PlainRoute("/{owner}/{name}/resolve/{rev}/{path:path}", resolve))


def resolve(request: Request) -> Response:
    """A file of a commit, branch or tag."""
    hub, actor = hub_of(request), actor_of(request)
    owner, name, rev, path = (request.path_params[part] for part in ("owner", "name", "rev", "path"))
    try:
        with hub.database.read() as session:
            repository = repositories.find(session, actor, owner, name)
            commit = repositories.revision(session, repository, rev)
            file = repositories.files(commit).get(path)
    except RepositoryNotFoundError as missing:
        return upstream.send(request, hub, f"{owner}/{name}", rev, path, missing)
    if file is None:
        raise EntryNotFoundError(f"{repository.full_name} has no file {path!r} at {rev}", commit.oid)
    headers = {"X-Repo-Commit": commit.oid, "Cache-Control": _caching(repository.private, rev == commit.oid)}
    answer = send(hub, request, path, file, headers)
    if path.endswith(_WEIGHTS) and answer.status_code in (200, 206, 307) and is_first(request):
        downloads_of(request).count(repository.id)
    return answer


def _caching(private: bool, forever: bool) -> str:
    who = "private" if private else "public"
    return f"{who}, max-age=31536000, immutable" if forever else f"{who}, no-cache"
