"""Who likes which repository."""

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from adapterhub.hub.server import policy
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.database import Like, Repository, now
from adapterhub.hub.server.database.upserting import add_new


def likes(session: Session, actor: Actor, repository: Repository) -> bool:
    """Whether somebody likes a repository."""
    return actor.id is not None and session.get(Like, (repository.id, actor.id)) is not None


def set_like(session: Session, actor: Actor, repository: Repository, liked: bool) -> None:
    """Like a repository, or no longer.

    Raises:
        NotSignedInError: for a stranger.
        RepositoryNotFoundError: if it may not be seen.
    """
    policy.check_scope(actor, "write")
    policy.check_read(session, actor, repository)
    if liked:
        add_new(session, Like, repository_id=repository.id, account_id=actor.id, created=now())
    else:
        session.execute(delete(Like).where(Like.repository_id == repository.id, Like.account_id == actor.id))
    repository.likes = session.scalar(select(func.count()).where(Like.repository_id == repository.id)) or 0
