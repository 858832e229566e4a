"""Repositories, commits and files in the words of the protocol."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from adapterhub.hub.server.database import Adapter, Commit, Ref, Repository
from adapterhub.hub.server.git_objects import Entry, pointer
from adapterhub.hub.server.protocol.tags import LIBRARIES, tags


def model(repository: Repository, adapter: Adapter | None, own_tags: Iterable[str], sha: str) -> dict[str, Any]:
    """What is said of a repository, in a list as for itself."""
    made: dict[str, Any] = {
        "_id": f"{repository.id:024x}",
        "id": repository.full_name,
        "modelId": repository.full_name,
        "author": repository.owner.name,
        "sha": sha,
        "lastModified": time(repository.updated),
        "createdAt": time(repository.created),
        "private": repository.private,
        "gated": False,
        "disabled": False,
        "downloads": repository.downloads,
        "downloadsAllTime": repository.downloads,
        "likes": repository.likes,
        "tags": tags(adapter, own_tags),
        "usedStorage": repository.size,
    }
    if adapter is not None:
        made["library_name"] = LIBRARIES.get(adapter.format, adapter.format)
        if adapter.base is not None:
            made["baseModels"] = {"relation": "adapter", "models": [{"id": adapter.base.name}]}
    return made


def sibling(path: str, file: Entry, details: bool) -> dict[str, Any]:
    """A file in what is said of a repository."""
    made: dict[str, Any] = {"rfilename": path}
    if details:
        made |= {"size": file.size, "blobId": file.oid}
        if file.large:
            made["lfs"] = {"size": file.size, "sha256": file.sha256, "pointerSize": _pointer_size(file)}
    return made


def tree_file(path: str, file: Entry) -> dict[str, Any]:
    """A file in a tree."""
    made: dict[str, Any] = {"type": "file", "oid": file.oid, "size": file.size, "path": path}
    if file.large:
        made["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": _pointer_size(file)}
    return made


def tree_folder(path: str, oid: str) -> dict[str, Any]:
    """A folder in a tree."""
    return {"type": "directory", "oid": oid, "size": 0, "path": path}


def last_commit(commit: Commit) -> dict[str, Any]:
    """The commit in which a file became what it is."""
    return {"id": commit.oid, "title": commit.title, "date": time(commit.created)}


def logged(commit: Commit) -> dict[str, Any]:
    """A commit in the log of a repository."""
    return {
        "id": commit.oid,
        "title": commit.title,
        "message": commit.message,
        "date": time(commit.created),
        "authors": [{"user": commit.author}],
    }


def refs(found: Iterable[Ref]) -> dict[str, Any]:
    """Branches and tags."""
    made: dict[str, Any] = {"branches": [], "tags": [], "converts": [], "pullRequests": []}
    kinds: Mapping[str, tuple[str, str]] = {"branch": ("branches", "heads"), "tag": ("tags", "tags")}
    for ref in found:
        key, folder = kinds[ref.kind]
        made[key].append({"name": ref.name, "ref": f"refs/{folder}/{ref.name}", "targetCommit": ref.oid})
    return made


def time(moment: datetime) -> str:
    """A time in the one form that all versions of the client read."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def _pointer_size(file: Entry) -> int:
    return len(pointer(file.sha256, file.size))
