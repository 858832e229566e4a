"""The page of an adapter, and what those who own it may do with it."""

from typing import BinaryIO

from fastapi import APIRouter, Request
from sqlalchemy.orm import Session
from starlette.responses import Response

from adapterhub.errors import HubError
from adapterhub.hub.card import Card
from adapterhub.hub.inspecting import Need
from adapterhub.hub.server import likes, policy, repositories, signatures
from adapterhub.hub.server.admission import CARD
from adapterhub.hub.server.catalogue import compositions, scores
from adapterhub.hub.server.catalogue.compatible import Trained, suitable
from adapterhub.hub.server.catalogue.leaderboard import Leaderboard, leaderboard
from adapterhub.hub.server.context import TheHub, public_url
from adapterhub.hub.server.database import Score
from adapterhub.hub.server.errors import status
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.snippets import Subject, snippets
from adapterhub.hub.server.web import markdown
from adapterhub.hub.server.web.figure import figure
from adapterhub.hub.server.web.forms import Form, local
from adapterhub.hub.server.web.members import made_of
from adapterhub.hub.server.web.rendering import go, page
from adapterhub.hub.server.web.repository_view import View, commits_of, options, properties, view
from adapterhub.hub.server.web.trying import Trial, blank, predictions_of
from adapterhub.hub.server.web.visitor import TheMember, TheVisitor, Visitor

router = APIRouter()
_CARD_BYTES = 1 << 20
_PLACES = 5  # of the leaderboard


@router.get("/{owner}/{name}")
def adapter_page(request: Request, visitor: TheVisitor, hub: TheHub, owner: str, name: str) -> Response:
    """An adapter as it is on its main branch."""
    return adapter_of(request, visitor, hub, owner, name)


@router.get("/{owner}/{name}/version/{revision:path}")
def version_page(request: Request, visitor: TheVisitor, hub: TheHub, owner: str, name: str, revision: str) -> Response:
    """An adapter as it is at another branch, tag or commit."""
    return adapter_of(request, visitor, hub, owner, name, revision)


@router.post("/{owner}/{name}/like")
def like(visitor: TheMember, form: Form, hub: TheHub, owner: str, name: str) -> Response:
    """Like it, or no longer."""
    with hub.database.write() as session:
        repository = repositories.find(session, visitor.actor, owner, name)
        likes.like(session, visitor.actor, repository, form["liked"] == "yes")
    return go(local(form["next"]))


@router.get("/{owner}/{name}/settings")
def settings_page(request: Request, visitor: TheMember, hub: TheHub, owner: str, name: str) -> Response:
    """What its owner settles."""
    return _settings(request, visitor, hub, owner, name)


@router.post("/{owner}/{name}/settings")
def change(request: Request, visitor: TheMember, form: Form, hub: TheHub, owner: str, name: str) -> Response:
    """Change who sees it, its name, or its tags; or delete it."""
    try:
        with hub.database.write() as session:
            repository = repositories.find(session, visitor.actor, owner, name)
            path = f"/{repository.full_name}"
            match form["do"]:
                case "visibility":
                    repositories.set_private(session, visitor.actor, repository, form["private"] == "yes")
                case "move":
                    repositories.move(session, visitor.actor, repository, form["owner"], form["name"])
                    return go(f"/{repository.full_name}", "moved")
                case "tag":
                    repositories.add_tag(
                        session, visitor.actor, repository, form["tag"], repositories.MAIN, form["message"]
                    )
                case "delete":
                    if form["confirm"] != repository.full_name:
                        raise HubError(f"type {repository.full_name} to delete it")
                    owned_by = repository.owner.name
                    repositories.remove(session, visitor.actor, repository)
                    return go(f"/{owned_by}", "deleted")
                case _:
                    raise HubError("this form says nothing of what to do")
    except HubError as error:
        return _settings(request, visitor, hub, owner, name, str(error), status(error))
    return go(f"{path}/settings", "saved")


def adapter_of(
    request: Request,
    visitor: Visitor,
    hub: Hub,
    owner: str,
    name: str,
    revision: str = repositories.MAIN,
    tried: Trial | None = None,
    code: int = 200,
) -> Response:
    """The page of an adapter; ``tried`` is what the visitor has tried on it, and ``code`` the status then."""
    served = predictions_of(request).base()
    with hub.database.read() as session:
        shown = view(session, visitor.actor, owner, name, revision)
        if shown.repository.key != f"{owner}/{name}".lower():
            return go(shown.path)
        made = made_of(session, visitor.actor, shown)
        subject = Subject(
            public_url(request),
            shown.repository.full_name,
            "" if shown.origin else shown.commit.oid,
            shown.base,
            shown.fact("format"),
            shown.weights,
            shown.fact("kind", "adapter"),
        )
        return page(
            request,
            visitor,
            "repository",
            status=code,
            view=shown,
            blank=blank(session, shown, served),
            trial=tried,
            liked=likes.is_liked(session, visitor.actor, shown.repository),
            commits=commits_of(session, shown.repository),
            card=_card(hub, shown),
            snippets=snippets(subject) if shown.fact("method") else [],
            figure=figure({**shown.info, "members": made.infos} if made else shown.info) if shown.info else None,
            made=made,
            used_in=compositions.used_in(session, visitor.actor, shown.repository),
            properties=properties(shown),
            options=options(shown),
            scores=_scores(session, shown),
            signed=signatures.of(session, hub, shown.repository, shown.commit),
            fitting=_fitting(session, shown),
            board=_board(session, visitor, shown),
            address_of_hub=public_url(request),
        )


def _card(hub: Hub, shown: View) -> str:
    """The card as HTML; "" without one."""
    entry = next((one.entry for one in shown.files if one.path == CARD), None)
    if entry is None:
        return ""
    stream: BinaryIO
    with hub.store.open(entry.sha256) as stream:
        text = stream.read(_CARD_BYTES).decode(errors="replace")
    return markdown.render(Card.parse(text).body, shown.path, shown.commit.oid)


def _scores(session: Session, shown: View) -> list[Score]:
    """What holds for the adapter that is shown."""
    if shown.adapter is None or scores.content_of(shown.commit) != shown.adapter.content:
        return []
    return scores.of(session, shown.adapter)


def _fitting(session: Session, shown: View) -> list[Trained]:
    """The base models that it can be loaded into."""
    if shown.adapter is None:
        return []
    return suitable(session, shown.adapter, tuple(Need(*one) for one in shown.info.get("needs") or ()))


def _board(session: Session, visitor: Visitor, shown: View) -> Leaderboard | None:
    """The best adapters of its data set."""
    if shown.adapter is None or shown.adapter.dataset is None:
        return None
    return leaderboard(session, visitor.actor, shown.adapter.dataset, limit=_PLACES)


def _settings(
    request: Request, visitor: Visitor, hub: Hub, owner: str, name: str, problem: str = "", code: int = 200
) -> Response:
    with hub.database.read() as session:
        shown = view(session, visitor.actor, owner, name)
        policy.check_write(session, visitor.actor, shown.repository)
        return page(request, visitor, "repository_settings", status=code, view=shown, problem=problem)
