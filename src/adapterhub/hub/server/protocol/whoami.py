"""Who has a token."""

from typing import Any

from fastapi import Request
from sqlalchemy import select

from adapterhub.hub.server import accounts
from adapterhub.hub.server.context import TheActor, TheHub, bearer
from adapterhub.hub.server.database import Account, Token
from adapterhub.hub.server.errors import NotSignedInError
from adapterhub.hub.server.protocol import describing
from adapterhub.hub.server.protocol.routing import router

routes = router()


@routes.get("/api/whoami-v2")
def whoami(request: Request, hub: TheHub, actor: TheActor) -> dict[str, Any]:
    """The user of a token, the organisations, and the token."""
    value = bearer(request)
    if actor.id is None or value is None:
        raise NotSignedInError("send a token of this hub: it is made on the settings page, or by adapterhub hub token")
    with hub.database.read() as session:
        user = session.get_one(Account, actor.id)
        token = session.scalar(select(Token).where(Token.digest == accounts.digest(value)))
        organisations = accounts.organisations(session, actor.id)
    access = {"displayName": "" if token is None else token.name, "role": actor.scope}
    if token is not None:
        access["createdAt"] = describing.time(token.created)
    return {
        "type": "user",
        "id": f"{user.id:024x}",
        "name": user.name,
        "fullname": user.full_name or user.name,
        "email": user.email or None,
        "emailVerified": False,
        "isPro": False,
        "canPay": False,
        "orgs": [
            {
                "type": "org",
                "id": f"{one.id:024x}",
                "name": one.name,
                "fullname": one.full_name,
                "roleInOrg": _role(role),
            }
            for one, role in organisations
        ],
        "auth": {"type": "access_token", "accessToken": access},
    }


def _role(role: str) -> str:
    return {"owner": "admin"}.get(role, role)
