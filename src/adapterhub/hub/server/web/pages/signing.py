"""To sign in, to sign out, to make an account."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from adapterhub.errors import HubAccessError, HubError, HubNotFoundError
from adapterhub.http.limits import network
from adapterhub.hub.server import accounts, limits
from adapterhub.hub.server.context import TheHub
from adapterhub.hub.server.database import Account
from adapterhub.hub.server.errors import RateLimitError, status
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.setup import add_first_user, setup_code
from adapterhub.hub.server.web import visitor as visitors
from adapterhub.hub.server.web.forms import Form, local
from adapterhub.hub.server.web.rendering import go, page
from adapterhub.hub.server.web.visitor import TheVisitor

router = APIRouter()
ATTEMPTS = 10  # a minute, of one name and of one address


@router.get("/login")
def login_page(request: Request, visitor: TheVisitor, next: str = "/") -> Response:
    """The form to sign in."""
    if visitor.signed_in:
        return go(local(next))
    return page(request, visitor, "login", next=local(next), name="", problem="")


@router.post("/login")
def login(request: Request, visitor: TheVisitor, form: Form, hub: TheHub) -> Response:
    """Sign in, by a name and a password."""
    next, name, problem, code = local(form["next"]), form["name"], "", 401
    try:
        _count(hub, request, name)
        with hub.database.read() as session:
            user = accounts.by_password(session, name, form.exact("password"))
        if user is not None:
            return _signed_in(request, hub, user, next)
        problem = "The name or the password is not right."
    except RateLimitError as error:
        problem, code = f"Too many attempts: {error}.", status(error)
    return page(request, visitor, "login", status=code, next=next, name=name, problem=problem)


@router.post("/logout")
def logout(request: Request, form: Form) -> Response:
    """Sign out."""
    response = go("/", "signed-out")
    visitors.sign_out(request, response)
    return response


@router.get("/register")
def register_page(request: Request, visitor: TheVisitor, hub: TheHub) -> Response:
    """The form to make an account, where anyone may."""
    _check_open(hub)
    return page(request, visitor, "register", code="", name="", problem="")


@router.post("/register")
def register(request: Request, visitor: TheVisitor, form: Form, hub: TheHub) -> Response:
    """Make an account."""
    _check_open(hub)
    try:
        _count(hub, request, "")
        password = _password(form.exact("password"), form.exact("again"))
        with hub.database.write() as session:
            made = accounts.add_user(session, form["name"], password)
    except HubError as error:
        return page(request, visitor, "register", status=status(error), code="", name=form["name"], problem=str(error))
    return _signed_in(request, hub, made, "/settings", "welcome")


@router.get("/setup")
def setup_page(request: Request, visitor: TheVisitor, hub: TheHub, code: str = "") -> Response:
    """The form to make the first account, which administers the hub."""
    if setup_code(hub) is None:
        return go("/login")
    if not code:
        raise HubAccessError("open the address that the server printed when it started: it holds a code")
    return page(request, visitor, "register", code=code, name="", problem="")


@router.post("/setup")
def setup(request: Request, visitor: TheVisitor, form: Form, hub: TheHub) -> Response:
    """Make the first account."""
    try:
        _count(hub, request, "")
        password = _password(form.exact("password"), form.exact("again"))
        made = add_first_user(hub, form["code"], form["name"], password)
    except HubError as error:
        return page(
            request,
            visitor,
            "register",
            status=status(error),
            code=form["code"] or "-",
            name=form["name"],
            problem=str(error),
        )
    return _signed_in(request, hub, made, "/", "welcome")


def _signed_in(request: Request, hub: Hub, user: Account, next: str, said: str = "") -> Response:
    with hub.database.write() as session:
        value = accounts.new_session(session, user)
    response = go(next, said)
    visitors.sign_in(request, response, value)
    return response


def _count(hub: Hub, request: Request, name: str) -> None:
    """Count an attempt.

    Raises:
        RateLimitError: if there were too many.
    """
    host = network(request.client.host) if request.client is not None else ""
    with hub.database.write() as session:
        limits.attempt(session, f"sign-in from {host}", 3 * ATTEMPTS)
        if name:
            limits.attempt(session, f"sign-in as {name.lower()}", ATTEMPTS)


def _password(first: str, again: str) -> str:
    if first != again:
        raise HubError("the two passwords differ")
    return first


def _check_open(hub: Hub) -> None:
    if not hub.settings.open_registration:
        raise HubNotFoundError("accounts are made by those who administer this hub")
