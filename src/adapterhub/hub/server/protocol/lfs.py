"""Large files by git LFS: a client asks where to send them, sends each whole or in parts, and has them verified.

It sends the bytes without its token, so that the addresses it is told are signed.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, Literal

from fastapi import Request
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response

from adapterhub.errors import HubNotFoundError, UploadRefusedError
from adapterhub.hub.server import blobs, grants, pieces, policy, repositories
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.bodies import with_body
from adapterhub.hub.server.context import TheActor, TheHub, public_url
from adapterhub.hub.server.database import Repository
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.protocol.routing import router
from adapterhub.hub.server.staging import Staged

routes = router()
_WHOLE, _PART, _PARTS = "address of a file", "address of a part of a file", "address for the parts of a file"
_SECONDS = 6 * 60 * 60
_MAX_OBJECTS = 1000
_MAX_PARTS = 10_000


class Object(BaseModel):
    """A file by its SHA-256 and its size."""

    oid: str = Field(pattern="^[0-9a-f]{64}$")
    size: int = Field(ge=0)


class Batch(BaseModel):
    """Files that a client wants to send."""

    operation: Literal["upload"]
    objects: list[Object] = Field(max_length=_MAX_OBJECTS)
    hash_algo: Literal["sha256"] = "sha256"


class Part(BaseModel):
    """A part of a file."""

    number: int = Field(alias="partNumber", ge=1)


class Completion(BaseModel):
    """All parts of a file."""

    parts: list[Part] = Field(max_length=_MAX_PARTS)


class _Answer(JSONResponse):
    media_type = "application/vnd.git-lfs+json"


@routes.post("/{owner}/{name}.git/info/lfs/objects/batch")
def batch(request: Request, hub: TheHub, actor: TheActor, owner: str, name: str, asked: Batch) -> Response:
    """Where each file goes; one that need not be sent has no address."""
    with hub.database.read() as session:
        repository = repositories.find(session, actor, owner, name)
        policy.check_write(session, actor, repository)
        there = blobs.held(session, actor, repository, {one.oid for one in asked.objects})
    told = []
    for one in asked.objects:
        more: dict[str, Any] = {}
        if one.size > hub.settings.max_file_bytes:
            limit = f"larger than the {hub.settings.max_file_bytes:,} bytes that a file may have here"
            more["error"] = {"code": 413, "message": limit}
        elif one.oid not in there:
            more["actions"] = _addresses(hub, actor, repository, public_url(request), one)
        told.append(one.model_dump() | more)
    return _Answer({"transfer": "basic", "objects": told})


@routes.put("/lfs/whole/{address}")
async def take_whole(request: Request, hub: TheHub, address: str) -> Response:
    """A file in one request."""
    await with_body(request, partial(_take_whole, hub, address))
    return Response()


@routes.put("/lfs/part/{address}")
async def take_part(request: Request, hub: TheHub, address: str) -> Response:
    """One part of a file."""
    etag = await with_body(request, partial(_take_part, hub, address))
    return Response(headers={"ETag": f'"{etag}"'})


@routes.post("/lfs/parts/{address}")
def complete(hub: TheHub, address: str, done: Completion) -> Response:
    """The parts are all there, and make the file; nothing happens if they did so before."""
    grant = grants.take(hub, _PARTS, address, _SECONDS)
    oid, size = grant.detail["oid"], grant.detail["size"]
    if not blobs.is_waiting(hub, grant.actor, oid):
        names = [str(part.number) for part in done.parts]
        with pieces.joined(hub, grant.actor, oid, names, size) as file:
            _check(file, oid)
            blobs.keep(hub, grant.actor, file)
        pieces.forget(hub, grant.actor, oid)
    return _Answer({})


@routes.post("/{owner}/{name}.git/info/lfs/verify")
def verify(hub: TheHub, actor: TheActor, owner: str, name: str, asked: Object) -> Response:
    """Whether a file has come."""
    with hub.database.read() as session:
        repository = repositories.find(session, actor, owner, name)
        policy.check_write(session, actor, repository)
        if not blobs.has(session, actor, repository, asked.oid):
            raise HubNotFoundError(f"{asked.oid} has not come: send it again")
    return _Answer({})


def _addresses(hub: Hub, actor: Actor, repository: Repository, root: str, one: Object) -> dict[str, Any]:
    """What a client does to send a file."""
    verify = {"href": f"{root}/{repository.full_name}.git/info/lfs/verify"}

    def signed(purpose: str, **detail: Any) -> str:
        return grants.give(hub, purpose, actor, repository, oid=one.oid, **detail)

    step = hub.settings.part_bytes
    if one.size <= step:
        href = f"{root}/lfs/whole/{signed(_WHOLE, size=one.size)}"
        return {"upload": {"href": href}, "verify": verify}
    header = {"chunk_size": str(step)}
    for number, start in enumerate(range(0, one.size, step), 1):
        size = min(step, one.size - start)
        header[str(number)] = f"{root}/lfs/part/{signed(_PART, number=number, size=size)}"
    href = f"{root}/lfs/parts/{signed(_PARTS, size=one.size)}"
    return {"upload": {"href": href, "header": header}, "verify": verify}


def _take_whole(hub: Hub, address: str, body: Iterator[bytes]) -> None:
    grant = grants.take(hub, _WHOLE, address, _SECONDS)
    with blobs.arriving(hub, body, "a file by LFS", grant.detail["size"]) as file:
        _check(file, grant.detail["oid"])
        blobs.keep(hub, grant.actor, file)


def _take_part(hub: Hub, address: str, body: Iterator[bytes]) -> str:
    """The SHA-256 of the part."""
    grant = grants.take(hub, _PART, address, _SECONDS)
    oid, number, size = (grant.detail[name] for name in ("oid", "number", "size"))
    with blobs.arriving(hub, body, f"part {number} of a file by LFS", size) as file:
        if file.size != size:
            raise UploadRefusedError(f"part {number} of {oid} has {file.size:,} bytes, not {size:,}: send it again")
        pieces.keep(hub, grant.actor, oid, str(number), file)
        return file.sha256


def _check(file: Staged, oid: str) -> None:
    if file.sha256 != oid:
        raise UploadRefusedError(f"the bytes that came have the SHA-256 {file.sha256}, not {oid}: send them again")
