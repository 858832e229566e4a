"""What the commits of a hub need of its store."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from adapterhub.hub.server.database import Tree


def referenced(session: Session) -> set[str]:
    """The SHA-256 of every file in every commit."""
    trees = session.scalars(select(Tree.files).execution_options(yield_per=1000))
    return {str(file[1]) for files in trees for file in files.values()}
