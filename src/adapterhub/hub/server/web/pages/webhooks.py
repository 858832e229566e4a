"""The webhooks of an account and of the organisations that it owns, and what became of their messages."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from adapterhub.errors import HubError
from adapterhub.hub.server import accounts, webhooks
from adapterhub.hub.server.context import TheHub
from adapterhub.hub.server.errors import status
from adapterhub.hub.server.events import EVENTS
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.web.forms import Form, whole
from adapterhub.hub.server.web.rendering import go, page
from adapterhub.hub.server.web.visitor import TheMember, Visitor

router = APIRouter(prefix="/settings/webhooks")


@router.get("")
def webhooks_page(request: Request, visitor: TheMember, hub: TheHub) -> Response:
    """All of them."""
    return _page(request, visitor, hub)


@router.get("/{number}")
def webhook_page(request: Request, visitor: TheMember, hub: TheHub, number: int) -> Response:
    """The last messages of one."""
    with hub.database.read() as session:
        found = webhooks.deliveries(session, visitor.actor, number)
        return page(request, visitor, "settings", part="webhook", number=number, deliveries=found, problem="")


@router.post("")
def add(request: Request, visitor: TheMember, form: Form, hub: TheHub) -> Response:
    """Make one; its secret is shown this once."""
    told = [one for one in form.all("events") if one in EVENTS]
    try:
        made = webhooks.add(hub, visitor.actor, form["account"] or None, form["url"][:2000], told)
    except HubError as error:
        return _page(request, visitor, hub, problem=str(error), code=status(error))
    return _page(request, visitor, hub, value=made.secret)


@router.post("/remove")
def remove(visitor: TheMember, form: Form, hub: TheHub) -> Response:
    """Remove one."""
    with hub.database.write() as session:
        webhooks.remove(session, visitor.actor, whole(form["id"]))
    return go("/settings/webhooks", "saved")


@router.post("/{number}/again")
def again(visitor: TheMember, form: Form, hub: TheHub, number: int) -> Response:
    """Send a message again."""
    with hub.database.write() as session:
        webhooks.send_again(session, visitor.actor, number, whole(form["id"]))
    return go(f"/settings/webhooks/{number}", "sent")


def _page(
    request: Request, visitor: Visitor, hub: Hub, value: str = "", problem: str = "", code: int = 200
) -> Response:
    with hub.database.read() as session:
        owners = accounts.owned(session, visitor.actor)
        found = [
            (name, one) for name in owners for one in webhooks.of(session, webhooks.owner(session, visitor.actor, name))
        ]
        return page(
            request,
            visitor,
            "settings",
            status=code,
            headers={"Cache-Control": "no-store"},
            part="webhooks",
            owners=owners,
            webhooks=found,
            events=EVENTS,
            value=value,
            problem=problem,
        )
