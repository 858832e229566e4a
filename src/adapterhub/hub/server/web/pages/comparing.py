"""Two or more adapters side by side."""

from collections.abc import Mapping
from dataclasses import dataclass

from fastapi import APIRouter, Query, Request
from sqlalchemy.orm import Session
from starlette.responses import Response

from adapterhub.errors import HubError
from adapterhub.hub.ids import RepositoryId
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.catalogue import scores
from adapterhub.hub.server.context import TheHub
from adapterhub.hub.server.web import wording
from adapterhub.hub.server.web.figure import Figure, figure
from adapterhub.hub.server.web.items import topic
from adapterhub.hub.server.web.rendering import page
from adapterhub.hub.server.web.repository_view import View, options, properties, view
from adapterhub.hub.server.web.visitor import TheVisitor

router = APIRouter()
_MOST = 4


@dataclass(frozen=True)
class Line:
    """A property, with its value for each adapter; ``differs`` if these are not all the same."""

    name: str
    values: list[str]

    @property
    def differs(self) -> bool:
        """Whether the adapters differ in it."""
        return len(set(self.values)) > 1


@router.get("/compare")
def compare_page(request: Request, visitor: TheVisitor, hub: TheHub, id: list[str] = Query([])) -> Response:  # noqa: B008
    """The page; adapters that cannot be shown are named."""
    shown: list[View] = []
    problem = ""
    with hub.database.read() as session:
        for text in dict.fromkeys(one.strip() for one in id[: 2 * _MOST] if one.strip()):
            try:
                name = RepositoryId.parse(text)
                shown.append(view(session, visitor.actor, name.owner, name.name))
            except HubError as error:
                problem = str(error)
        shown = shown[:_MOST]
        figures: list[Figure | None] = [figure(one.info) if one.info else None for one in shown]
        return page(
            request,
            visitor,
            "compare",
            views=shown,
            figures=figures,
            lines=_lines(session, visitor.actor, shown),
            ids=[one.repository.full_name for one in shown],
            room=len(shown) < _MOST,
            problem=problem,
        )


def _lines(session: Session, actor: Actor, shown: list[View]) -> list[Line]:
    columns = [_facts(session, one) for one in shown]
    names = dict.fromkeys(name for column in columns for name in column)
    return [Line(name, [column.get(name, "-") for column in columns]) for name in names]


def _facts(session: Session, one: View) -> Mapping[str, str]:
    made = {"Base model": one.base}
    if one.adapter is not None:
        made["For"] = topic(one.adapter.task, one.adapter.dataset)
    made |= dict(properties(one))
    made |= {f"Option: {name}": text for name, text in options(one)}
    if one.adapter is not None:
        for score in scores.of(session, one.adapter):
            origin = "verified" if score.verified else "claimed"
            made.setdefault(f"{score.metric} on {score.data}", f"{wording.score(score.value)} ({origin})")
    made |= {"Downloads": f"{one.repository.downloads:,}", "Likes": f"{one.repository.likes:,}"}
    made["Newest version"] = f"{wording.date(one.commit.created)}, {one.commit.oid[:10]}"
    return {name: text for name, text in made.items() if text}
