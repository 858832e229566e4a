"""The routes of Xet that an upload takes; clients go on without the others (``v2/shards``, ``chunks``, telemetry)."""

import secrets
import time
from functools import partial
from typing import Annotated

from fastapi import Depends, HTTPException, Path, Request
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, Response

from adapterhub.hub.server import grants, policy, repositories
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.bodies import with_body
from adapterhub.hub.server.context import TheActor, TheHub, bearer, hub_of, public_url
from adapterhub.hub.server.protocol.routing import router
from adapterhub.hub.server.protocol.xet import sink

routes = router()
_PURPOSE = "token of Xet"
_SECONDS = 15 * 60


def granted(connection: HTTPConnection) -> Actor:
    """Who got the token that came with a request."""
    return grants.take(hub_of(connection), _PURPOSE, bearer(connection) or "", _SECONDS).actor


Granted = Annotated[Actor, Depends(granted)]
Nonce = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]
Hash = Annotated[str, Path(pattern="^[0-9a-f]{64}$")]


@routes.get("/api/models/{owner}/{name}/xet-write-token/{revision}")
def token(request: Request, hub: TheHub, actor: TheActor, owner: str, name: str, revision: str) -> Response:
    """Leave to send files for a revision for a quarter of an hour, and where.

    The address is new each time: clients remember what they sent to an address, and here it is not kept for long.
    """
    with hub.database.read() as session:
        repository = repositories.find(session, actor, owner, name)
        policy.check_write(session, actor, repository)
        repositories.revision(session, repository, revision)
    value = grants.give(hub, _PURPOSE, actor, repository, revision=revision)
    expires = int(time.time()) + _SECONDS
    address = f"{public_url(request)}/xet/{secrets.token_hex(16)}"
    headers = {
        "X-Xet-Access-Token": value,
        "X-Xet-Token-Expiration": str(expires),
        "X-Xet-Cas-Url": address,
        "Cache-Control": "no-store",
    }
    return JSONResponse({"accessToken": value, "exp": expires, "casUrl": address}, headers=headers)


@routes.post("/xet/{nonce}/v1/xorbs/default/{name}")
async def xorb(request: Request, hub: TheHub, actor: Granted, nonce: Nonce, name: Hash) -> Response:
    """A xorb comes."""
    await with_body(request, partial(sink.take_xorb, hub, actor, nonce, name))
    return JSONResponse({"was_inserted": True})


@routes.post("/xet/{nonce}/v1/shards")
async def shard(request: Request, hub: TheHub, actor: Granted, nonce: Nonce) -> Response:
    """A shard comes, and with it the files that it tells of."""
    await with_body(request, partial(sink.take_shard, hub, actor, nonce))
    return JSONResponse({"result": 1})


@routes.post("/v1/telemetry")
def telemetry() -> None:
    """Clients tell how an upload went; here nobody listens, and they go on."""
    raise HTTPException(404, "this hub takes no telemetry")
