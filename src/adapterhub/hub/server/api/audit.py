"""The record of who did what, for those who administer the server."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel

from adapterhub.hub.server import audit, policy
from adapterhub.hub.server.api.problems import problems
from adapterhub.hub.server.context import TheActor, TheHub

router = APIRouter(prefix="/api/v1/audit", tags=["server"])
_PLAIN = r"^[^\x00]*$"


class EntryView(BaseModel):
    """Something that was done."""

    id: int
    created: datetime
    actor: str
    action: str
    subject: str
    detail: dict[str, Any] | None
    digest: str


@router.get("", responses=problems(401, 403))
def entries(
    hub: TheHub,
    actor: TheActor,
    before: Annotated[int | None, Query(ge=1, le=2**31 - 1, description="The last id that was seen")] = None,
    action: Annotated[str, Query(max_length=48, pattern=_PLAIN, description="Of this kind alone")] = "",
    subject: Annotated[str, Query(max_length=255, pattern=_PLAIN, description="Of this subject alone")] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[EntryView]:
    """What was done of late, the newest first."""
    policy.check_server_admin(actor)
    with hub.database.read() as session:
        found = audit.entries(session, before=before, action=action, subject=subject, limit=limit)
        return [EntryView.model_validate(one, from_attributes=True) for one in found]
