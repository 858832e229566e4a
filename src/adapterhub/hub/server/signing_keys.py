"""The public keys that an account signs its adapters with."""

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from adapterhub.errors import HubConflictError, HubNotFoundError
from adapterhub.hub import signing
from adapterhub.hub.server import audit, policy
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.database import Account, Membership, SigningKey

_MOST = 20


def of(session: Session, account: Account) -> list[SigningKey]:
    """The keys of an account, the oldest first."""
    return list(session.scalars(select(SigningKey).where(SigningKey.account_id == account.id).order_by(SigningKey.id)))


def of_publishers(session: Session, owner: Account, fingerprint: str) -> SigningKey | None:
    """The key of this fingerprint of an account, or else of one of those who may publish in its name."""
    members = select(Membership.user_id).where(
        Membership.organisation_id == owner.id, Membership.role.in_(("write", "owner"))
    )
    wanted = (
        select(SigningKey)
        .where(SigningKey.fingerprint == fingerprint)
        .where(or_(SigningKey.account_id == owner.id, SigningKey.account_id.in_(members)))
        .order_by(SigningKey.account_id != owner.id, SigningKey.id)
    )
    return session.scalars(wanted).first()


def add(session: Session, actor: Actor, account: Account, name: str, public: str) -> SigningKey:
    """Let what is signed with a key (a public one, as PEM) count as signed by an account.

    Raises:
        SignatureError: for what is no such key.
        HubConflictError: if the account has it already, or very many.
        HubAccessError: for who may not change the account.
    """
    policy.check_administer(session, actor, account)
    pem, fingerprint = signing.public_key(public)
    if any(one.fingerprint == fingerprint for one in of(session, account)):
        raise HubConflictError(f"{account.name} has this key already")
    if (session.scalar(select(func.count()).where(SigningKey.account_id == account.id)) or 0) >= _MOST:
        raise HubConflictError(f"{account.name} has {_MOST} keys, and may have no more")
    made = SigningKey(account_id=account.id, name=name, pem=pem, fingerprint=fingerprint)
    session.add(made)
    session.flush()
    audit.record(session, actor, "key.add", account.key, name=name, fingerprint=fingerprint)
    return made


def remove(session: Session, actor: Actor, number: int) -> None:
    """Take that back: what was signed with the key counts as signed by nobody who is known.

    Raises:
        HubNotFoundError: if there is no such key.
        HubAccessError: for who may not change the account that it is of.
    """
    key = session.get(SigningKey, number)
    if key is None:
        raise HubNotFoundError(f"there is no key {number}")
    policy.check_administer(session, actor, key.account)
    session.delete(key)
    audit.record(session, actor, "key.remove", key.account.key, name=key.name, fingerprint=key.fingerprint)
