"""What those who administer the server see: accounts and quotas, and the record of what was done."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from adapterhub.errors import HubError
from adapterhub.hub.server import accounts, administration, audit, policy
from adapterhub.hub.server.context import TheHub
from adapterhub.hub.server.errors import status
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.web.forms import Form
from adapterhub.hub.server.web.rendering import go, page
from adapterhub.hub.server.web.visitor import TheMember, Visitor

router = APIRouter(prefix="/admin")
_MB = 1_000_000


@router.get("")
def users_page(request: Request, visitor: TheMember, hub: TheHub, page: int = 1) -> Response:
    """All accounts."""
    return _users(request, visitor, hub, page)


@router.post("/users")
def add_user(request: Request, visitor: TheMember, form: Form, hub: TheHub) -> Response:
    """Make an account for somebody."""
    policy.check_server_admin(visitor.actor)
    try:
        with hub.database.write() as session:
            made = accounts.add_user(session, form["name"], form.exact("password") or None, email=form["email"])
            audit.record(session, visitor.actor, "account.create", made.key)
    except HubError as error:
        return _users(request, visitor, hub, 1, str(error), status(error))
    return go("/admin", "saved")


@router.post("/quota")
def quota(request: Request, visitor: TheMember, form: Form, hub: TheHub) -> Response:
    """Give an account more room, or less."""
    try:
        limit = None if not form["megabytes"] else int(float(form["megabytes"]) * _MB)
        if limit is not None and not 0 <= limit < 2**63:
            raise ValueError
    except (ValueError, OverflowError):
        return _users(request, visitor, hub, 1, "a quota is a number of megabytes", 400)
    with hub.database.write() as session:
        administration.set_quota(session, visitor.actor, form["name"], limit)
    return go("/admin", "saved")


@router.post("/disable")
def disable(request: Request, visitor: TheMember, form: Form, hub: TheHub) -> Response:
    """Lock an account out, or let it in again."""
    try:
        with hub.database.write() as session:
            administration.set_disabled(session, visitor.actor, form["name"], form["disabled"] == "yes")
    except HubError as error:
        return _users(request, visitor, hub, 1, str(error), status(error))
    return go("/admin", "saved")


@router.get("/audit")
def audit_page(request: Request, visitor: TheMember, hub: TheHub, before: int | None = None) -> Response:
    """What was done, by whom."""
    with hub.database.read() as session:
        found = administration.entries(session, visitor.actor, before)
        return page(request, visitor, "admin", part="audit", entries=found, size=administration.PAGE)


def _users(request: Request, visitor: Visitor, hub: Hub, number: int, problem: str = "", code: int = 200) -> Response:
    with hub.database.read() as session:
        number = min(max(number, 1), 1_000_000)
        found, total = administration.usages(session, visitor.actor, number)
        return page(
            request,
            visitor,
            "admin",
            status=code,
            part="users",
            usages=found,
            number=number,
            last=-(-total // administration.PAGE),
            quota=hub.settings.quota_bytes,
            problem=problem,
        )
