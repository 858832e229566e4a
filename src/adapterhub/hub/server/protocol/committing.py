"""Files are uploaded: what is to come, and the commit with it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import Request
from pathspec import GitIgnoreSpec
from pydantic import BaseModel, Field

from adapterhub.errors import HubError
from adapterhub.hub.server import blobs, commits, policy, repositories
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.bodies import with_body
from adapterhub.hub.server.commits import Change, Message, Put, Remove
from adapterhub.hub.server.context import TheActor, TheHub, public_url
from adapterhub.hub.server.database import Blob, Commit
from adapterhub.hub.server.errors import TooLargeError
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.protocol.absent import not_here
from adapterhub.hub.server.protocol.ndjson import Line, lines
from adapterhub.hub.server.protocol.routing import Flag, router

_SHA256 = re.compile("[0-9a-f]{64}")

routes = router()


class Coming(BaseModel):
    """A file that is to be uploaded."""

    path: str
    size: int = Field(ge=0)


class AllComing(BaseModel):
    """Files that are to be uploaded, and the ``.gitignore`` among them."""

    files: list[Coming] = Field(max_length=256)
    gitIgnore: str | None = None  # noqa: N815


@dataclass(frozen=True)
class Asked:
    """What a commit is asked to be."""

    message: Message
    parent: str | None
    changes: list[Change]


@routes.post("/api/models/{owner}/{name}/preupload/{rev}")
def preupload(
    hub: TheHub, actor: TheActor, owner: str, name: str, rev: str, coming: AllComing, create_pr: Flag = False
) -> dict[str, Any]:
    """How each file is to be sent, whether it is left out, and the id of what is there in its place."""
    if create_pr:
        raise not_here("pull requests")
    ignored = GitIgnoreSpec.from_lines((coming.gitIgnore or "").splitlines())
    with hub.database.read() as session:
        repository = repositories.find(session, actor, owner, name)
        policy.check_write(session, actor, repository)
        files = repositories.files(repositories.revision(session, repository, rev))
        answers = []
        for file in coming.files:
            mode, here = _mode(hub, file), files.get(file.path)
            oid = None
            if here is not None:
                oid = here.sha256 if mode == "lfs" else session.get_one(Blob, here.sha256).oid
            ignore = ignored.match_file(file.path)
            answers.append({"path": file.path, "uploadMode": mode, "shouldIgnore": ignore, "oid": oid})
    return {"files": answers}


@routes.post("/api/models/{owner}/{name}/commit/{rev}")
async def commit(
    request: Request, hub: TheHub, actor: TheActor, owner: str, name: str, rev: str, create_pr: Flag = False
) -> dict[str, Any]:
    """Make a commit of the lines in the body."""
    if create_pr:
        raise not_here("pull requests")
    made = await with_body(request, partial(_publish, hub, actor, owner, name, rev))
    url = f"{public_url(request)}/{owner}/{name}/commit/{made.oid}"
    return {"success": True, "commitUrl": url, "commitOid": made.oid, "hookOutput": ""}


def _mode(hub: Hub, file: Coming) -> str:
    large = commits.is_large(file.path, file.size, hub.settings.regular_bytes)
    return "lfs" if large and hub.settings.uploads == "auto" else "regular"


def _publish(hub: Hub, actor: Actor, owner: str, name: str, rev: str, pieces: Iterator[bytes]) -> Commit:
    with hub.database.read() as session:  # before any bytes are taken
        policy.check_write(session, actor, repositories.find(session, actor, owner, name))
    asked = _read(hub, actor, pieces)
    return commits.publish(hub, actor, owner, name, rev, asked.changes, asked.message, parent=asked.parent)


def _read(hub: Hub, actor: Actor, pieces: Iterator[bytes]) -> Asked:
    message, parent = None, None
    changes: list[Change] = []
    for line in lines(pieces, lambda data: blobs.receive(hub, actor, data, "a file of the commit")):
        if line.key == "header":
            message = Message(_text(line.value, "summary") or "Update", _text(line.value, "description"))
            parent = line.value.get("parentCommit")
            continue
        changes.append(_change(line))
        if len(changes) > 2 * hub.settings.max_commit_files:
            raise TooLargeError(f"a commit here changes at most {2 * hub.settings.max_commit_files:,} files: make two")
    if message is None:
        raise HubError("the commit has no header line")
    if parent is not None and not isinstance(parent, str):
        raise HubError("parentCommit has to be the id of a commit")
    return Asked(message, parent, changes)


def _change(line: Line) -> Change:
    key, value, path = line.key, line.value, line.value.get("path")
    if not isinstance(path, str) or not path:
        raise HubError(f"a line {key!r} of the commit has no path")
    if key in ("deletedFile", "deletedFolder"):
        return Remove(path, folder=key == "deletedFolder")
    if key == "file":
        if value.get("encoding", "base64") != "base64" or line.taken is None:
            raise HubError(f"{path}: a file comes as a string 'content' of the encoding base64")
        return Put(path, line.taken)
    if key == "lfsFile":
        oid = value.get("oid")
        if value.get("algo", "sha256") != "sha256" or not isinstance(oid, str) or not _SHA256.fullmatch(oid):
            raise HubError(f"{path}: a large file is named by its SHA-256")
        return Put(path, oid)
    raise HubError(f"lines {key!r} are not taken in a commit here")


def _text(value: dict[str, Any], name: str) -> str:
    """A text as databases and git can keep it."""
    text = value.get(name) or ""
    if not isinstance(text, str):
        raise HubError(f"{name} has to be a text")
    return text.encode("utf-8", "replace").decode().replace("\0", "")
