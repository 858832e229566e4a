"""What the commits of a hub need of its store."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from adapterhub.hub.server.database import Commit, Tree


def referenced(session: Session) -> set[str]:
    """The SHA-256 of every file in every commit."""
    used = select(Tree.files).where(Tree.oid.in_(select(Commit.tree_oid)))
    trees = session.scalars(used.execution_options(yield_per=1000))
    return {str(file[1]) for files in trees for file in files.values()}
