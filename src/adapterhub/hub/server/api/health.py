"""Whether the server works."""

from fastapi import APIRouter
from sqlalchemy import text

import adapterhub
from adapterhub.hub.server.context import TheHub

router = APIRouter(tags=["server"])


@router.get("/health")
def health(hub: TheHub) -> dict[str, str]:
    """The database answers."""
    with hub.database.read() as session:
        session.execute(text("SELECT 1"))
    return {"status": "ok", "version": adapterhub.__version__}
