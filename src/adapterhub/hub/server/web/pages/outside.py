"""To sign in by another service, where the settings name one."""

from dataclasses import asdict

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from adapterhub.errors import HubAccessError, HubNotFoundError
from adapterhub.hub.server import accounts, oidc, signing
from adapterhub.hub.server.context import TheHub, public_url
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.web import visitor as visitors
from adapterhub.hub.server.web.forms import local
from adapterhub.hub.server.web.rendering import go
from adapterhub.hub.server.web.visitor import TheVisitor

router = APIRouter(prefix="/oidc")
_COOKIE, _PURPOSE, _SECONDS = "adapterhub_oidc", "sign-in", 600


@router.get("/login")
def login(request: Request, hub: TheHub, next: str = "/") -> Response:
    """On to the service."""
    _check_on(hub)
    address, attempt = oidc.begin(hub, _callback(request), local(next))
    response = RedirectResponse(address, 303)
    value = signing.sign(hub, _PURPOSE, asdict(attempt))
    visitors.keep(request, response, _COOKIE, value, seconds=_SECONDS)
    return response


@router.get("/callback")
def callback(
    request: Request, visitor: TheVisitor, hub: TheHub, code: str = "", state: str = "", error: str = ""
) -> Response:
    """Back from the service."""
    _check_on(hub)
    if error:
        raise HubAccessError(f"the service did not sign you in ({error[:100]})")
    attempt = oidc.Attempt(**signing.signed(hub, _PURPOSE, request.cookies.get(_COOKIE, ""), _SECONDS))
    identity = oidc.finish(hub, _callback(request), attempt, state, code)
    with hub.database.write() as session:
        account = oidc.account_of(session, identity, visitor.actor)
        value = accounts.new_session(session, account)
    response = go(local(attempt.next))
    visitors.sign_in(request, response, value)
    response.delete_cookie(_COOKIE, path="/")
    return response


def _callback(request: Request) -> str:
    return f"{public_url(request)}/oidc/callback"


def _check_on(hub: Hub) -> None:
    if not hub.settings.oidc_issuer:
        raise HubNotFoundError("this hub signs in by names and passwords alone")
