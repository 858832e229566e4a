"""The page of a user or an organisation: what it published."""

from fastapi import APIRouter, Query, Request
from sqlalchemy import func, select, true
from starlette.responses import Response

from adapterhub.hub.server import accounts, policy
from adapterhub.hub.server.context import TheHub
from adapterhub.hub.server.database import Adapter, Repository
from adapterhub.hub.server.web.items import bare, item
from adapterhub.hub.server.web.rendering import page
from adapterhub.hub.server.web.visitor import TheVisitor

router = APIRouter()
_PAGE = 30


@router.get("/{name}")
def account_page(
    request: Request, visitor: TheVisitor, hub: TheHub, name: str, number: int = Query(1, alias="page", ge=1, le=10**6)
) -> Response:
    """What an account published, the newest first, as far as the visitor may see it.

    What was withdrawn is shown to those who might bring it back.
    """
    with hub.database.read() as session:
        account = accounts.account(session, name)
        shown = policy.may_write(session, visitor.actor, account)
        there = true() if shown else Repository.withdrawn.is_(None)
        mine = (Repository.owner_id == account.id, policy.visible(visitor.actor), there)
        total = session.scalar(select(func.count()).select_from(Repository).where(*mine)) or 0
        found = session.execute(
            select(Repository, Adapter)
            .outerjoin(Adapter, Adapter.repository_id == Repository.id)
            .where(*mine)
            .order_by(Repository.updated.desc())
            .offset((number - 1) * _PAGE)
            .limit(_PAGE)
        )
        is_organisation = account.kind == "organisation"
        people = accounts.members if is_organisation else accounts.organisations
        return page(
            request,
            visitor,
            "account",
            account=account,
            items=[bare(repository) if adapter is None else item(adapter) for repository, adapter in found],
            people=people(session, account.id),
            total=total,
            number=number,
            last=-(-total // _PAGE),
        )
