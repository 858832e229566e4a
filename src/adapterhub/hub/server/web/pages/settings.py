"""What an account holder settles: profile, password, tokens, organisations."""

from datetime import timedelta

from fastapi import APIRouter, Request
from sqlalchemy.orm import Session
from starlette.responses import Response

from adapterhub.errors import HubError
from adapterhub.hub.server import accounts, audit, policy
from adapterhub.hub.server.actor import SCOPES, Actor
from adapterhub.hub.server.context import TheHub
from adapterhub.hub.server.database import Account, now
from adapterhub.hub.server.errors import RepositoryNotFoundError, status
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.web import visitor as visitors
from adapterhub.hub.server.web.forms import Form, whole
from adapterhub.hub.server.web.rendering import go, page, segment
from adapterhub.hub.server.web.visitor import TheMember, Visitor

router = APIRouter(prefix="/settings")
_DAYS = {"30": 30, "90": 90, "365": 365, "": None}
_LONGEST = 2000


@router.get("")
def profile_page(request: Request, visitor: TheMember, hub: TheHub) -> Response:
    """Name, address and password."""
    return _profile(request, visitor, hub)


@router.post("/profile")
def profile(visitor: TheMember, form: Form, hub: TheHub) -> Response:
    """Change what others read of an account: one's own, or an organisation's."""
    name = form["account"] or visitor.actor.name
    with hub.database.write() as session:
        account = accounts.account(session, name)
        policy.check_administer(session, visitor.actor, account)
        account.full_name, account.about = form["full_name"][:200], form["about"][:_LONGEST]
        if account.kind == "user":
            account.email = form["email"][:200]
        audit.record(session, visitor.actor, "account.profile", account.key)
        back = "/settings" if account.id == visitor.actor.id else _organisation_path(account.name)
    return go(back, "saved")


@router.post("/password")
def password(request: Request, visitor: TheMember, form: Form, hub: TheHub) -> Response:
    """Change the password; this browser stays signed in."""
    try:
        with hub.database.read() as session:
            user = _self(session, visitor.actor)
            right = (
                user.password_hash is None or accounts.by_password(session, user.name, form.exact("old")) is not None
            )
        if not right:
            raise HubError("the present password is not right")
        if form.exact("password") != form.exact("again"):
            raise HubError("the two new passwords differ")
        with hub.database.write() as session:
            user = _self(session, visitor.actor)
            accounts.set_password(session, user, form.exact("password"))
            audit.record(session, visitor.actor, "account.password", user.key)
            value = accounts.new_session(session, user)
    except HubError as error:
        return _profile(request, visitor, hub, str(error), status(error))
    response = go("/settings", "password")
    visitors.sign_in(request, response, value)
    return response


@router.get("/tokens")
def tokens_page(request: Request, visitor: TheMember, hub: TheHub) -> Response:
    """The tokens of an account."""
    return _tokens(request, visitor, hub)


@router.post("/tokens")
def add_token(request: Request, visitor: TheMember, form: Form, hub: TheHub) -> Response:
    """Make a token, and show it this once."""
    days = _DAYS.get(form["days"])
    try:
        with hub.database.write() as session:
            value = accounts.new_token(
                session,
                _self(session, visitor.actor),
                form["name"][:96] or "token",
                form["scope"],  # type: ignore[arg-type]
                expires=None if days is None else now() + timedelta(days=days),
            )
            audit.record(session, visitor.actor, "token.create", visitor.actor.name.lower(), scope=form["scope"])
    except HubError as error:
        return _tokens(request, visitor, hub, problem=str(error), code=status(error))
    return _tokens(request, visitor, hub, value=value)


@router.post("/tokens/revoke")
def revoke_token(visitor: TheMember, form: Form, hub: TheHub) -> Response:
    """End a token."""
    with hub.database.write() as session:
        accounts.revoke_token(session, visitor.actor.id or 0, whole(form["id"]))
        audit.record(session, visitor.actor, "token.revoke", visitor.actor.name.lower(), token=whole(form["id"]))
    return go("/settings/tokens", "revoked")


@router.get("/organisations")
def organisations_page(request: Request, visitor: TheMember, hub: TheHub) -> Response:
    """The organisations of a user."""
    return _organisations(request, visitor, hub)


@router.post("/organisations")
def add_organisation(request: Request, visitor: TheMember, form: Form, hub: TheHub) -> Response:
    """Make an organisation."""
    try:
        with hub.database.write() as session:
            made = accounts.add_organisation(session, form["name"], visitor.actor.id or 0, full_name=form["full_name"])
            audit.record(session, visitor.actor, "organisation.create", made.key)
            path = _organisation_path(made.name)
    except HubError as error:
        return _organisations(request, visitor, hub, str(error), status(error))
    return go(path, "saved")


@router.get("/organisations/{name}")
def organisation_page(request: Request, visitor: TheMember, hub: TheHub, name: str) -> Response:
    """The members of an organisation."""
    return _organisation(request, visitor, hub, name)


@router.post("/organisations/{name}/members")
def set_member(request: Request, visitor: TheMember, form: Form, hub: TheHub, name: str) -> Response:
    """Give somebody a role, or none any more."""
    try:
        with hub.database.write() as session:
            organisation = _mine(session, visitor.actor, name)
            user = accounts.account(session, form["user"])
            accounts.set_role(session, organisation, user, form["role"] or None)
            done = "member.set" if form["role"] else "member.remove"
            audit.record(session, visitor.actor, done, organisation.key, user=user.key, role=form["role"] or None)
    except HubError as error:
        return _organisation(request, visitor, hub, name, str(error), status(error))
    return go(_organisation_path(name), "saved")


def _profile(request: Request, visitor: Visitor, hub: Hub, problem: str = "", code: int = 200) -> Response:
    with hub.database.read() as session:
        user = _self(session, visitor.actor)
        return page(request, visitor, "settings", status=code, part="profile", user=user, problem=problem)


def _tokens(
    request: Request, visitor: Visitor, hub: Hub, value: str = "", problem: str = "", code: int = 200
) -> Response:
    with hub.database.read() as session:
        found = accounts.tokens(session, visitor.actor.id or 0)
        return page(
            request,
            visitor,
            "settings",
            status=code,
            headers={"Cache-Control": "no-store"},
            part="tokens",
            tokens=found,
            value=value,
            scopes=SCOPES,
            problem=problem,
        )


def _organisations(request: Request, visitor: Visitor, hub: Hub, problem: str = "", code: int = 200) -> Response:
    with hub.database.read() as session:
        found = accounts.organisations(session, visitor.actor.id or 0)
        return page(
            request, visitor, "settings", status=code, part="organisations", organisations=found, problem=problem
        )


def _organisation(
    request: Request, visitor: Visitor, hub: Hub, name: str, problem: str = "", code: int = 200
) -> Response:
    with hub.database.read() as session:
        organisation = _mine(session, visitor.actor, name)
        return page(
            request,
            visitor,
            "settings",
            status=code,
            part="organisation",
            organisation=organisation,
            members=accounts.members(session, organisation.id),
            roles=accounts.ROLES,
            problem=problem,
        )


def _self(session: Session, actor: Actor) -> Account:
    return session.get_one(Account, actor.id)


def _mine(session: Session, actor: Actor, name: str) -> Account:
    """An organisation that somebody may change."""
    found = accounts.account(session, name)
    if found.kind != "organisation":
        raise RepositoryNotFoundError(f"there is no organisation {name}")
    policy.check_administer(session, actor, found)
    return found


def _organisation_path(name: str) -> str:
    return f"/settings/organisations/{segment(name)}"
