"""A hub in a few numbers, for those who run it."""

from typing import Any

from alembic.runtime.migration import MigrationContext
from sqlalchemy import func, select
from sqlalchemy.orm import Session

import adapterhub
from adapterhub.hub.server.database import Account, Adapter, Blob, Commit, Job, Repository
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.readiness import Readiness


def status(hub: Hub) -> dict[str, Any]:
    """Versions, counts, sizes, jobs that were given up, and what does not work."""
    state = Readiness(hub).state()
    with hub.database.read() as session:
        return {
            "version": adapterhub.__version__,
            "database": f"{hub.database.url.get_backend_name()}: {state.database or 'ok'}",
            "tables": MigrationContext.configure(session.connection()).get_current_revision(),
            "store": f"{hub.settings.storage or hub.settings.directory / 'blobs'}: {state.store or 'ok'}",
            "users": _count(session, Account, Account.kind == "user"),
            "organisations": _count(session, Account, Account.kind == "organisation"),
            "repositories": _count(session, Repository),
            "adapters": _count(session, Adapter),
            "commits": _count(session, Commit),
            "downloads": session.scalar(select(func.sum(Repository.downloads))) or 0,
            "files": _count(session, Blob),
            "bytes": session.scalar(select(func.sum(Blob.size))) or 0,
            "jobs waiting": _count(session, Job, Job.finished.is_(None)),
            "jobs given up": [
                {"kind": job.kind, "finished": job.finished, "error": job.error}
                for job in session.scalars(select(Job).where(Job.finished.is_not(None), Job.error != "").limit(20))
            ],
        }


def _count(session: Session, table: Any, *conditions: Any) -> int:
    return session.scalar(select(func.count()).select_from(table).where(*conditions)) or 0
