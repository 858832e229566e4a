"""The public keys that an account, and the organisations that it owns, sign their adapters with."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from adapterhub.errors import HubError
from adapterhub.hub.server import accounts, signing_keys
from adapterhub.hub.server.context import TheHub
from adapterhub.hub.server.errors import status
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.web.forms import Form, whole
from adapterhub.hub.server.web.rendering import go, page
from adapterhub.hub.server.web.visitor import TheMember, Visitor

router = APIRouter(prefix="/settings/keys")


@router.get("")
def keys_page(request: Request, visitor: TheMember, hub: TheHub) -> Response:
    """All of them."""
    return _page(request, visitor, hub)


@router.post("")
def add(request: Request, visitor: TheMember, form: Form, hub: TheHub) -> Response:
    """Add one."""
    try:
        with hub.database.write() as session:
            account = accounts.account(session, form["account"] or visitor.actor.name)
            signing_keys.add(session, visitor.actor, account, form["name"][:96] or "key", form["public_key"][:2000])
    except HubError as error:
        return _page(request, visitor, hub, str(error), status(error))
    return go("/settings/keys", "saved")


@router.post("/remove")
def remove(visitor: TheMember, form: Form, hub: TheHub) -> Response:
    """Remove one."""
    with hub.database.write() as session:
        signing_keys.remove(session, visitor.actor, whole(form["id"]))
    return go("/settings/keys", "saved")


def _page(request: Request, visitor: Visitor, hub: Hub, problem: str = "", code: int = 200) -> Response:
    with hub.database.read() as session:
        owners = accounts.owned(session, visitor.actor)
        found = [(name, one) for name in owners for one in signing_keys.of(session, accounts.account(session, name))]
        return page(request, visitor, "settings", status=code, part="keys", owners=owners, keys=found, problem=problem)
