"""The first user of a hub, who administers it: made by whoever holds a code that the server prints."""

import hashlib
import hmac

from sqlalchemy import select

from adapterhub.errors import HubAccessError
from adapterhub.hub.server import accounts, audit
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.database import Account
from adapterhub.hub.server.hub import Hub


def setup_code(hub: Hub) -> str | None:
    """What the first user has to know; None once there is one."""
    with hub.database.read() as session:
        if session.scalar(select(Account.id).limit(1)) is not None:
            return None
    return hmac.new(hub.key.encode(), b"first user", hashlib.sha256).hexdigest()[:32]


def add_first_user(hub: Hub, code: str, name: str, password: str) -> Account:
    """The user who administers the hub.

    Raises:
        HubAccessError: for a wrong code, or if there is a user already.
        HubIdError: for a name or a password that cannot be one.
    """
    right = setup_code(hub)
    if right is None or not hmac.compare_digest(right.encode(), code.encode()):
        raise HubAccessError("there is a user already, or the code is not the one that the server printed")
    with hub.database.write() as session:
        if session.scalar(select(Account.id).limit(1)) is not None:
            raise HubAccessError("there is a user already")
        made = accounts.add_user(session, name, password, admin=True)
        audit.record(session, Actor(made.id, made.name), "server.setup", made.key)
        return made
