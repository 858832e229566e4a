"""What the Hugging Face Hub has and this one has not: each is told apart from what went wrong."""

from fastapi import HTTPException

from adapterhub.hub.server.errors import RepositoryNotFoundError
from adapterhub.hub.server.protocol.routing import router

_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
_OF_MODELS = {
    "discussions": "discussions and pull requests",
    "super-squash": "squashing the history",
    "lfs-files": "the list of large files",
    "user-access-request": "requests for access",
    "user-access-report": "requests for access",
    "resource-group": "resource groups",
    "scan": "the scan of files",
}
_OF_ALL = {
    "collections": "collections",
    "jobs": "jobs",
    "scheduled-jobs": "scheduled jobs",
    "settings": "settings by this way: see its own API",
    "papers": "papers",
    "daily_papers": "papers",
    "discussions": "discussions",
    "buckets": "buckets",
}
_TYPES = ("datasets", "spaces", "kernels")

routes = router()


def not_here(what: str) -> HTTPException:
    """The answer that a client shows as it is."""
    message = f"this hub has no {what}"
    return HTTPException(501, message, {"X-Error-Code": "NotImplemented", "X-Error-Message": message})


def _add(path: str, what: str) -> None:
    def absent() -> None:
        raise not_here(what)

    for form in (path, f"{path}/{{rest:path}}"):
        routes.add_api_route(form, absent, methods=_METHODS)


def _no_repository() -> None:
    raise RepositoryNotFoundError("this hub has models (adapters) alone: no datasets, spaces or kernels")


for _name, _what in _OF_MODELS.items():
    _add(f"/api/models/{{owner}}/{{name}}/{_name}", _what)
for _name, _what in _OF_ALL.items():
    _add(f"/api/{_name}", _what)
for _name in _TYPES:
    for _form in (f"/api/{_name}", f"/api/{_name}/{{rest:path}}", f"/{_name}/{{owner}}/{{name}}/resolve/{{rest:path}}"):
        routes.add_api_route(_form, _no_repository, methods=_METHODS)
