"""Users and organisations, and how a user proves to be one: passwords, tokens, sessions."""

import binascii
import hashlib
import secrets
from datetime import datetime, timedelta
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session as Transaction

from adapterhub.errors import HubConflictError, HubIdError
from adapterhub.hub.ids import check_new_owner
from adapterhub.hub.server.actor import SCOPES, STRANGER, Actor, Scope
from adapterhub.hub.server.database import Account, Database, Membership, Session, Task, Token, now
from adapterhub.hub.server.errors import RepositoryNotFoundError

ROLES = ("read", "write", "owner")
MIN_PASSWORD = 10
TOKEN_PREFIX = "ah_"
SESSION_DAYS = 30
_USED_EVERY = timedelta(minutes=5)
_HASHER = PasswordHasher()


def add_user(
    session: Transaction, name: str, password: str | None, *, email: str = "", full_name: str = "", admin: bool = False
) -> Account:
    """A new user; without a password one can sign in by tokens, or by another service, alone.

    Raises:
        HubConflictError: if the name is taken.
        HubIdError: for a name that cannot be one, or a password that is too short.
    """
    check_free(session, name)
    if password is not None and len(password) < MIN_PASSWORD:
        raise HubIdError(f"a password needs at least {MIN_PASSWORD} characters")
    account = Account(
        name=name,
        key=name.lower(),
        email=email,
        full_name=full_name,
        is_admin=admin,
        password_hash=None if password is None else _HASHER.hash(password),
    )
    session.add(account)
    session.flush()
    return account


def add_organisation(session: Transaction, name: str, owner_id: int | None, *, full_name: str = "") -> Account:
    """A new organisation with one owner, or without any: then those who administer the server do.

    Raises:
        HubConflictError: if the name is taken.
    """
    check_free(session, name)
    account = Account(name=name, key=name.lower(), kind="organisation", full_name=full_name)
    session.add(account)
    session.flush()
    if owner_id is not None:
        session.add(Membership(organisation_id=account.id, user_id=owner_id, role="owner"))
        session.flush()
    return account


def check_free(session: Transaction, name: str) -> None:
    """Pass a name that no account has and that may be one.

    Raises:
        HubConflictError: if it is taken.
        HubIdError: if it cannot be the name of an account, or is that of a task or a language.
    """
    check_new_owner(name, set(session.scalars(select(Task.slug))))
    if session.scalar(select(Account.id).where(Account.key == name.lower())) is not None:
        raise HubConflictError(f"the name {name!r} is taken: choose another")


def account(session: Transaction, name: str) -> Account:
    """The account of a name, in letters of any case.

    Raises:
        RepositoryNotFoundError: if there is none.
    """
    # PostgreSQL takes no NUL, not even to look for it.
    found = None if "\0" in name else session.scalar(select(Account).where(Account.key == name.lower()))
    if found is None:
        raise RepositoryNotFoundError(f"there is no user or organisation {name!r}")
    return found


def set_password(session: Transaction, user: Account, password: str) -> None:
    """Give a new password; whoever is signed in with the old one is signed out."""
    if len(password) < MIN_PASSWORD:
        raise HubIdError(f"a password needs at least {MIN_PASSWORD} characters")
    user.password_hash = _HASHER.hash(password)
    session.execute(delete(Session).where(Session.account_id == user.id))


def set_disabled(session: Transaction, user: Account, disabled: bool) -> None:
    """Lock an account out, or let it in again; whoever is signed in is signed out."""
    user.disabled = disabled
    if disabled:
        session.execute(delete(Session).where(Session.account_id == user.id))


def by_password(session: Transaction, name: str, password: str) -> Account | None:
    """The user of a name and password, or None; how long it takes tells nothing."""
    user = session.scalar(select(Account).where(Account.key == name.lower(), Account.kind == "user"))
    known = user is not None and user.password_hash is not None and not user.disabled
    nobody = _nobody()
    try:
        _HASHER.verify(user.password_hash if known and user and user.password_hash else nobody, password)
    except (VerificationError, InvalidHashError):
        return None
    return user if known else None


@cache
def _nobody() -> str:
    """The hash of a password that nobody has, so that an unknown name takes as long as a wrong password."""
    return _HASHER.hash("a password that nobody has")


def new_token(session: Transaction, user: Account, name: str, scope: Scope, *, expires: datetime | None = None) -> str:
    """A new token, which is shown this once.

    Raises:
        HubIdError: for a scope that there is none of.
    """
    if scope not in SCOPES:
        raise HubIdError(f"a token is for one of {', '.join(SCOPES)}, not {scope!r}")
    value = _token()
    session.add(Token(account_id=user.id, name=name, digest=digest(value), scope=scope, expires=expires))
    session.flush()
    return value


def by_token(database: Database, value: str) -> Actor:
    """Who has a token; a stranger if nobody has, or it has expired."""
    if not is_token(value):
        return STRANGER
    with database.read() as session:
        token = session.scalar(select(Token).where(Token.digest == digest(value)))
        if token is None or (token.expires is not None and token.expires < now()) or token.account.disabled:
            return STRANGER
        found = actor(token.account, token.scope)  # type: ignore[arg-type]
        stale = token.used is None or token.used < now() - _USED_EVERY
    if stale:
        with database.write() as session:
            session.execute(update(Token).where(Token.id == token.id).values(used=now()))
    return found


def tokens(session: Transaction, user_id: int) -> list[Token]:
    """The tokens of a user, the newest first."""
    return list(session.scalars(select(Token).where(Token.account_id == user_id).order_by(Token.id.desc())))


def revoke_token(session: Transaction, user_id: int, token_id: int) -> None:
    """End a token of a user.

    Raises:
        RepositoryNotFoundError: if that user has no such token.
    """
    found = session.get(Token, token_id)
    if found is None or found.account_id != user_id:
        raise RepositoryNotFoundError(f"you have no token {token_id}")
    session.delete(found)
    session.flush()


def actor(user: Account, scope: Scope = "admin") -> Actor:
    """A user as somebody who makes a request."""
    return Actor(user.id, user.name, scope, user.is_admin and scope == "admin")


def new_session(session: Transaction, user: Account) -> str:
    """Sign a user in; returns what the cookie holds."""
    value = secrets.token_urlsafe(32)
    session.execute(delete(Session).where(Session.expires < now()))
    session.add(
        Session(
            digest=digest(value),
            account_id=user.id,
            csrf=secrets.token_urlsafe(32),
            expires=now() + timedelta(days=SESSION_DAYS),
        )
    )
    session.flush()
    return value


def by_session(session: Transaction, value: str) -> Session | None:
    """The session of a cookie, if it is a good one."""
    found = session.get(Session, digest(value))
    return None if found is None or found.expires < now() or found.account.disabled else found


def end_session(session: Transaction, value: str) -> None:
    """Sign out."""
    session.execute(delete(Session).where(Session.digest == digest(value)))


def role(session: Transaction, organisation_id: int, user_id: int) -> str | None:
    """What a user is in an organisation."""
    found = session.get(Membership, (organisation_id, user_id))
    return None if found is None else found.role


def organisations(session: Transaction, user_id: int) -> list[tuple[Account, str]]:
    """The organisations of a user, and the role in each."""
    found = session.execute(
        select(Account, Membership.role)
        .join(Membership, Membership.organisation_id == Account.id)
        .where(Membership.user_id == user_id)
        .order_by(Account.key)
    )
    return [(one, its_role) for one, its_role in found]


def owned(session: Transaction, actor: Actor) -> list[str]:
    """The names under which somebody decides: their own, and those of the organisations that they own."""
    mine = organisations(session, actor.id) if actor.id is not None else []
    return [actor.name, *(one.name for one, its_role in mine if its_role == "owner")]


def members(session: Transaction, organisation_id: int) -> list[tuple[Account, str]]:
    """The users of an organisation, and the role of each."""
    found = session.execute(
        select(Account, Membership.role)
        .join(Membership, Membership.user_id == Account.id)
        .where(Membership.organisation_id == organisation_id)
        .order_by(Account.key)
    )
    return [(one, its_role) for one, its_role in found]


def set_role(session: Transaction, organisation: Account, user: Account, role: str | None) -> None:
    """Give a user a role in an organisation, or none any more.

    Raises:
        HubConflictError: if no owner would be left.
        HubIdError: for a role that there is none of.
    """
    if role is not None and role not in ROLES:
        raise HubIdError(f"a role is one of {', '.join(ROLES)}, not {role!r}")
    if organisation.kind != "organisation":
        raise HubIdError(f"{organisation.name} is a user, and has no members")
    found = session.get(Membership, (organisation.id, user.id))
    if found is not None and found.role == "owner" and role != "owner":
        owners = select(func.count()).where(Membership.organisation_id == organisation.id, Membership.role == "owner")
        if session.scalar(owners) == 1:
            raise HubConflictError(f"{user.name} is the only owner of {organisation.name}: name another one first")
    if found is not None and role is None:
        session.delete(found)
    elif found is not None and role is not None:
        found.role = role
    elif role is not None:
        session.add(Membership(organisation_id=organisation.id, user_id=user.id, role=role))
    session.flush()


def digest(value: str) -> str:
    """What is kept of a secret of 256 random bits."""
    return hashlib.sha256(value.encode()).hexdigest()


def is_token(value: str) -> bool:
    """Whether it is one of our tokens by its form: a checksum at its end tells it from others."""
    body, check = value[:-8], value[-8:]
    return value.isascii() and value.startswith(TOKEN_PREFIX) and check == _checksum(body)


def _token() -> str:
    body = TOKEN_PREFIX + secrets.token_hex(32)
    return body + _checksum(body)


def _checksum(body: str) -> str:
    return f"{binascii.crc32(body.encode()):08x}"
