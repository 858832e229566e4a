"""Users, organisations and tokens."""

from datetime import datetime, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field
from sqlalchemy import select

from adapterhub.hub.server import accounts, audit, policy
from adapterhub.hub.server.api.problems import problems
from adapterhub.hub.server.context import TheActor, TheHub
from adapterhub.hub.server.database import Account, Token, now

router = APIRouter(prefix="/api/v1", tags=["accounts"])

Name = Annotated[str, Path(min_length=1, max_length=96, description="Of a user or an organisation")]
Number = Annotated[int, Path(ge=1, le=2**31 - 1)]
Scope = Literal["read", "write", "admin"]
Role = Literal["read", "write", "owner"]


class AccountView(BaseModel):
    """A user or an organisation, as everybody may see it."""

    name: str
    kind: Literal["user", "organisation"]
    full_name: str
    about: str
    created: datetime

    @classmethod
    def of(cls, one: Account) -> "AccountView":
        """From its row."""
        return cls.model_validate(one, from_attributes=True)


class Me(AccountView):
    """Who asks, and what the token is for."""

    scope: Scope
    is_admin: bool
    organisations: dict[str, Role]


class NewOrganisation(BaseModel):
    """An organisation to make."""

    name: str = Field(min_length=1, max_length=96)
    full_name: str = Field("", max_length=200)


class Member(BaseModel):
    """A user in an organisation."""

    name: str
    role: Role


class NewRole(BaseModel):
    """What a user shall be in an organisation."""

    role: Role


class NewToken(BaseModel):
    """A token to make."""

    name: str = Field(min_length=1, max_length=96)
    scope: Scope = "read"
    days: int | None = Field(None, ge=1, le=3650, description="How long it holds; forever by default")


class TokenView(BaseModel):
    """A token without its value."""

    id: int
    name: str
    scope: Scope
    created: datetime
    expires: datetime | None
    used: datetime | None


class TokenValue(TokenView):
    """A new token; the value is shown this once."""

    value: str


@router.get("/me", responses=problems(401))
def me(hub: TheHub, actor: TheActor) -> Me:
    """Who the token is of."""
    policy.check_scope(actor, "read")
    with hub.database.read() as session:
        user = session.get_one(Account, actor.id)
        mine = {one.name: role for one, role in accounts.organisations(session, user.id)}
        view = AccountView.of(user).model_dump()
        more = {"scope": actor.scope, "is_admin": actor.is_admin, "organisations": mine}
        return Me.model_validate(view | more)


@router.get("/accounts/{name}", responses=problems(404))
def account(hub: TheHub, name: Name) -> AccountView:
    """A user or an organisation."""
    with hub.database.read() as session:
        return AccountView.of(accounts.account(session, name))


@router.post("/organisations", status_code=201, responses=problems(401, 403, 409))
def add_organisation(hub: TheHub, actor: TheActor, wanted: NewOrganisation) -> AccountView:
    """A new organisation; whoever makes it owns it."""
    policy.check_scope(actor, "admin")
    assert actor.id is not None
    with hub.database.write() as session:
        made = accounts.add_organisation(session, wanted.name, actor.id, full_name=wanted.full_name)
        audit.record(session, actor, "organisation.create", made.key)
        return AccountView.of(made)


@router.get("/organisations/{name}/members", responses=problems(404))
def members(hub: TheHub, name: Name) -> list[Member]:
    """Who belongs to an organisation."""
    with hub.database.read() as session:
        found = accounts.members(session, accounts.account(session, name).id)
        return [Member.model_validate({"name": user.name, "role": role}) for user, role in found]


@router.put("/organisations/{name}/members/{user}", responses=problems(401, 403, 404, 409))
def set_member(hub: TheHub, actor: TheActor, name: Name, user: Name, wanted: NewRole) -> Member:
    """Take a user into an organisation, or give one there another role."""
    with hub.database.write() as session:
        organisation, member = accounts.account(session, name), accounts.account(session, user)
        policy.check_administer(session, actor, organisation)
        accounts.set_role(session, organisation, member, wanted.role)
        audit.record(session, actor, "member.set", organisation.key, user=member.key, role=wanted.role)
        return Member(name=member.name, role=wanted.role)


@router.delete("/organisations/{name}/members/{user}", status_code=204, responses=problems(401, 403, 404, 409))
def remove_member(hub: TheHub, actor: TheActor, name: Name, user: Name) -> None:
    """Let a user go from an organisation."""
    with hub.database.write() as session:
        organisation, member = accounts.account(session, name), accounts.account(session, user)
        policy.check_administer(session, actor, organisation)
        accounts.set_role(session, organisation, member, None)
        audit.record(session, actor, "member.remove", organisation.key, user=member.key)


@router.get("/tokens", responses=problems(401, 403))
def tokens(hub: TheHub, actor: TheActor) -> list[TokenView]:
    """The tokens of whoever asks, without their values."""
    policy.check_scope(actor, "admin")
    with hub.database.read() as session:
        found = accounts.tokens(session, actor.id or 0)
        return [TokenView.model_validate(one, from_attributes=True) for one in found]


@router.post("/tokens", status_code=201, responses=problems(401, 403))
def add_token(hub: TheHub, actor: TheActor, wanted: NewToken) -> TokenValue:
    """A new token of whoever asks."""
    policy.check_scope(actor, "admin")
    expires = None if wanted.days is None else now() + timedelta(days=wanted.days)
    with hub.database.write() as session:
        user = session.get_one(Account, actor.id)
        value = accounts.new_token(session, user, wanted.name, wanted.scope, expires=expires)
        made = session.scalars(select(Token).where(Token.digest == accounts.digest(value))).one()
        audit.record(session, actor, "token.create", actor.name.lower(), scope=wanted.scope)
        return TokenValue(**TokenView.model_validate(made, from_attributes=True).model_dump(), value=value)


@router.delete("/tokens/{number}", status_code=204, responses=problems(401, 403, 404))
def remove_token(hub: TheHub, actor: TheActor, number: Number) -> None:
    """Revoke a token."""
    policy.check_scope(actor, "admin")
    with hub.database.write() as session:
        accounts.revoke_token(session, actor.id or 0, number)
        audit.record(session, actor, "token.revoke", actor.name.lower(), token=number)
