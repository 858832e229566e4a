"""Two or more adapters side by side."""

from collections.abc import Mapping
from dataclasses import dataclass

from fastapi import APIRouter, Query, Request
from sqlalchemy.orm import Session
from starlette.responses import Response

from adapterhub.errors import HubError
from adapterhub.hub.ids import RepositoryId
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
            lines=_lines(session, shown),
            ids=[one.repository.full_name for one in shown],
            room=len(shown) < _MOST,
            problem=problem,
        )


def _lines(session: Session, shown: list[View]) -> list[Line]:
    columns = [_facts(session, one) for one in shown]
    made = []
    for parts in zip(*columns, strict=True):
        names = dict.fromkeys(name for part in parts for name, text in part.items() if text)
        made += [Line(name, [part.get(name) or "-" for part in parts]) for name in names]
    return made


def _facts(session: Session, one: View) -> tuple[Mapping[str, str], ...]:
    """What there is to compare: what it is, how it is configured, how it scores, how it is used."""
    results: dict[str, str] = {}
    if one.adapter is not None:
        for score in scores.of(session, one.adapter):
            origin = "verified" if score.verified else "claimed"
            results.setdefault(f"{score.metric} on {score.data}", f"{wording.score(score.value)} ({origin})")
    place = "" if one.adapter is None else topic(one.adapter.task, one.adapter.dataset)
    return (
        {"Base model": one.base, "For": place, **dict(properties(one))},
        dict(options(one)),
        results,
        {
            "Downloads": f"{one.repository.downloads:,}",
            "Likes": f"{one.repository.likes:,}",
            "Newest version": f"{wording.date(one.commit.created)}, {one.commit.oid[:10]}",
        },
    )
