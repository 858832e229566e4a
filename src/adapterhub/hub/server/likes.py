"""Who likes what."""

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from adapterhub.hub.server import policy
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.database import Account, Like, Repository, now
from adapterhub.hub.server.database.upserting import add_new


def like(session: Session, actor: Actor, repository: Repository, likes: bool) -> None:
    """Have an account like a repository, or not any more.

    Raises:
        NotSignedInError, HubAccessError: without an account, or a token that may write.
    """
    policy.check_scope(actor, "write")
    if likes:
        add_new(session, Like, repository_id=repository.id, account_id=actor.id, created=now())
    else:
        session.execute(delete(Like).where(Like.repository_id == repository.id, Like.account_id == actor.id))
    count = select(func.count()).where(Like.repository_id == repository.id)
    repository.likes = session.scalar(count) or 0


def likers(session: Session, repository: Repository) -> list[Account]:
    """Who likes a repository, by name."""
    found = select(Account).join(Like, Like.account_id == Account.id).where(Like.repository_id == repository.id)
    return list(session.scalars(found.order_by(Account.key)))


def liked(session: Session, actor: Actor, account: Account) -> list[tuple[Repository, Like]]:
    """What an account likes of what ``actor`` may see, the latest first."""
    found = (
        select(Repository, Like)
        .join(Like, Like.repository_id == Repository.id)
        .where(Like.account_id == account.id, policy.visible(actor))
        .order_by(Like.created.desc(), Repository.key)
    )
    return [(repository, its_like) for repository, its_like in session.execute(found)]


def is_liked(session: Session, actor: Actor, repository: Repository) -> bool:
    """Whether ``actor`` likes a repository."""
    return actor.id is not None and session.get(Like, (repository.id, actor.id)) is not None
