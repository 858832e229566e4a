"""Base models: they are not here, and clients whose only hub this is ask for them all the same."""

from fnmatch import fnmatchcase
from itertools import chain
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import FastAPI, Request
from sqlalchemy import select
from starlette.responses import FileResponse, Response, StreamingResponse

from adapterhub.errors import HubIdError
from adapterhub.hub.ids import Revision, check_name
from adapterhub.hub.server import policy
from adapterhub.hub.server.actor import STRANGER
from adapterhub.hub.server.context import hub_of, public_url
from adapterhub.hub.server.database import Adapter, BaseModel, Repository
from adapterhub.hub.server.errors import RepositoryNotFoundError
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.protocol.routing import PlainRoute, router
from adapterhub.hub.server.protocol.sending import TYPE, attachment, is_known
from adapterhub.hub.server.pulling import File, Upstream

_ASKED = ("blobs", "cursor", "expand", "limit", "recursive", "securityStatus")

routes = router()


def add_routes(app: FastAPI) -> None:
    """Add the routes of repositories without an owner, which are never ours."""
    app.include_router(routes)
    app.router.routes.append(PlainRoute("/{name}/resolve/{rev}/{path:path}", resolve))


@routes.get("/api/models/{name}")
@routes.get("/api/models/{name}/revision/{rev}")
@routes.get("/api/models/{name}/tree/{rev}")
@routes.get("/api/models/{name}/tree/{rev}/{path:path}")
def described(request: Request, name: str) -> Response:
    """What is said of a repository without an owner."""
    return describe(request, hub_of(request), name, policy.no_repository(name))


def resolve(request: Request) -> Response:
    """A file of a repository without an owner."""
    name, rev, path = (request.path_params[part] for part in ("name", "rev", "path"))
    return send(request, hub_of(request), name, rev, path, policy.no_repository(name))


def describe(request: Request, hub: Hub, name: str, missing: RepositoryNotFoundError) -> Response:
    """What the other hub says at the address of a request, if repositories of this name are fetched from it.

    Raises:
        RepositoryNotFoundError: ``missing``, if they are not.
    """
    upstream = _upstream(hub, name, missing)
    params = request.path_params
    rest = [params[part] for part in ("path",) if params.get(part)]
    kind = "tree" if "/tree/" in request.url.path else "revision" if "rev" in params else None
    target = f"/api/models/{name}"
    if kind is not None:
        target += f"/{kind}/{quote(params['rev'], safe='')}" + "".join(f"/{quote(part)}" for part in rest)
    if query := urlencode([(key, value) for key, value in request.query_params.multi_items() if key in _ASKED]):
        target += f"?{query}"
    found = upstream.document(target, forever=kind == "tree" and _is_commit(params["rev"]))
    headers = {} if found.rest is None else {"Link": f'<{public_url(request)}{found.rest}>; rel="next"'}
    return Response(found.text, media_type="application/json", headers=headers)


def send(request: Request, hub: Hub, name: str, rev: str, path: str, missing: RepositoryNotFoundError) -> Response:
    """A file of the other hub, if repositories of this name are fetched from it.

    Raises:
        RepositoryNotFoundError: ``missing``, if they are not.
    """
    upstream = _upstream(hub, name, missing)
    file = upstream.file(name, rev, path)
    headers = _headers(file, path, _is_commit(rev))
    if is_known(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    if (kept := upstream.kept(file)) is not None:
        return FileResponse(kept, headers=headers, media_type=TYPE)
    headers["Content-Length"] = str(file.size)
    if request.method == "HEAD":
        return Response(headers=headers, media_type=TYPE)
    del headers["Accept-Ranges"]  # the first time it comes as a whole
    pieces = upstream.fetch(name, path, file)
    first = next(pieces)  # what cannot be fetched at all is an error, not a body that breaks off
    return StreamingResponse(chain([first], pieces), headers=headers, media_type=TYPE)


def _headers(file: File, path: str, forever: bool) -> dict[str, str]:
    return {
        "ETag": f'"{file.etag}"',
        "X-Repo-Commit": file.commit,
        "Accept-Ranges": "bytes",
        "Content-Disposition": attachment(path.rpartition("/")[2]),
        "Cache-Control": "public, max-age=31536000, immutable" if forever else "public, no-cache",
    }


def _upstream(hub: Hub, name: str, missing: RepositoryNotFoundError) -> Upstream:
    """The other hub, for a repository that may be fetched through: one that a setting names, or the base of an adapter
    that is public here."""
    try:
        for part in name.split("/"):
            check_name(part, "repository name")
    except HubIdError:
        raise missing from None
    if not hub.settings.upstream or not (_is_listed(hub, name) or _is_base(hub, name)):
        raise missing
    return Upstream(hub.settings)


def _is_listed(hub: Hub, name: str) -> bool:
    return any(fnmatchcase(name.lower(), pattern.lower()) for pattern in hub.settings.upstream_allowed)


def _is_base(hub: Hub, name: str) -> bool:
    found = (
        select(BaseModel.id)
        .join(Adapter, Adapter.base_id == BaseModel.id)
        .join(Repository, Repository.id == Adapter.repository_id)
        .where(BaseModel.key == name.lower(), policy.visible(STRANGER))
    )
    with hub.database.read() as session:
        return session.scalar(found.limit(1)) is not None


def _is_commit(rev: Any) -> bool:
    try:
        return Revision(rev).is_commit
    except HubIdError:
        return False
