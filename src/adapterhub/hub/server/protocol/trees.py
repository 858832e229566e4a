"""Folders and files of a commit."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any

from fastapi import Form, Request
from sqlalchemy.orm import Session

from adapterhub.hub.server import git_objects, repositories
from adapterhub.hub.server.context import TheActor, TheHub
from adapterhub.hub.server.database import Commit, Repository
from adapterhub.hub.server.errors import EntryNotFoundError, RepositoryNotFoundError
from adapterhub.hub.server.protocol import describing, upstream
from adapterhub.hub.server.protocol.routing import Flag, router

Listing = dict[str, dict[str, Any]]

routes = router()


@routes.get("/api/models/{owner}/{name}/tree/{rev}")
@routes.get("/api/models/{owner}/{name}/tree/{rev}/{path:path}")
def tree(
    request: Request,
    hub: TheHub,
    actor: TheActor,
    owner: str,
    name: str,
    rev: str,
    path: str = "",
    recursive: Flag = False,
    expand: Flag = False,
) -> Any:
    """What is in a folder, and with ``recursive`` in the folders in it."""
    try:
        with hub.database.read() as session:
            repository = repositories.find(session, actor, owner, name)
            commit = repositories.revision(session, repository, rev)
            found = _in_folder(commit, path.strip("/"), recursive)
            return _expanded(session, repository, commit, found) if expand else list(found.values())
    except RepositoryNotFoundError as missing:
        return upstream.describe(request, hub, f"{owner}/{name}", missing)


@routes.post("/api/models/{owner}/{name}/paths-info/{rev}")
def paths_info(
    hub: TheHub,
    actor: TheActor,
    owner: str,
    name: str,
    rev: str,
    paths: Annotated[list[str], Form()],
    expand: Annotated[Flag, Form()] = False,
) -> list[dict[str, Any]]:
    """Files and folders by their paths; those that are not there are left out."""
    with hub.database.read() as session:
        repository = repositories.find(session, actor, owner, name)
        commit = repositories.revision(session, repository, rev)
        everything = _everything(commit)
        wanted = dict.fromkeys(path.strip("/") for path in paths)
        found = {path: everything[path] for path in wanted if path in everything}
        return _expanded(session, repository, commit, found) if expand else list(found.values())


def _in_folder(commit: Commit, folder: str, recursive: bool) -> Listing:
    everything = _everything(commit)
    if folder and everything.get(folder, {}).get("type") != "directory":
        raise EntryNotFoundError(f"there is no folder {folder!r} in {commit.oid}", commit.oid)
    inside = f"{folder}/" if folder else ""
    return {
        path: item
        for path, item in everything.items()
        if path.startswith(inside) and (recursive or "/" not in path.removeprefix(inside))
    }


def _everything(commit: Commit) -> Listing:
    """All folders and files of a commit by path, in order."""
    files = repositories.files(commit)
    made = {path: describing.tree_folder(path, oid) for path, oid in git_objects.folders(files).items() if path}
    made |= {path: describing.tree_file(path, file) for path, file in files.items()}
    return dict(sorted(made.items()))


def _expanded(
    session: Session, repository: Repository, commit: Commit, found: Mapping[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    """With the commit in which each became what it is."""
    changes = dict(_last_changes(repositories.history(session, repository, commit), found))
    return [item | {"lastCommit": describing.last_commit(changes[path])} for path, item in found.items()]


def _last_changes(history: Iterable[Commit], found: Mapping[str, dict[str, Any]]) -> Iterator[tuple[str, Commit]]:
    waiting = {path: item["oid"] for path, item in found.items()}
    newer: Commit | None = None
    for commit in history:
        if not waiting:
            return
        oids = {path: item["oid"] for path, item in _everything(commit).items()}
        if newer is not None:
            for path in [path for path, oid in waiting.items() if oids.get(path) != oid]:
                yield path, newer
                del waiting[path]
        newer = commit
    for path in waiting:
        assert newer is not None
        yield path, newer
