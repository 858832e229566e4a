"""To run an adapter on typed text."""

from dataclasses import replace

from fastapi import APIRouter, Request
from starlette.responses import Response

from adapterhub.errors import HubError, HubUnreachableError
from adapterhub.http.limits import network
from adapterhub.hub.server import limits
from adapterhub.hub.server.context import TheHub
from adapterhub.hub.server.errors import status
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.web import trying
from adapterhub.hub.server.web.forms import Fields, Form
from adapterhub.hub.server.web.pages.repositories import adapter_of
from adapterhub.hub.server.web.rendering import go, page, segment
from adapterhub.hub.server.web.repository_view import View, view
from adapterhub.hub.server.web.trying import Blank, ThePredictions, Trial
from adapterhub.hub.server.web.visitor import TheVisitor, Visitor

router = APIRouter()
TRIALS = 30  # a minute, of one account, or one address without an account
_PART = "answer"  # what a script of the page asks for in the header X-Part, to put it into the page


@router.get("/{owner}/{name}/try")
def try_page(owner: str, name: str) -> Response:
    """Back to the form."""
    return go(f"/{segment(owner)}/{segment(name)}#try")


@router.post("/{owner}/{name}/try")
def try_adapter(
    request: Request,
    visitor: TheVisitor,
    form: Form,
    hub: TheHub,
    predictions: ThePredictions,
    owner: str,
    name: str,
) -> Response:
    """Run it, and show the page again with what it answers, or the answer alone where a script asks for that."""
    with hub.database.read() as session:
        shown = view(session, visitor.actor, owner, name, form["revision"] or "main")
        asked = trying.blank(session, shown, predictions.base())
    tried, code = Trial(form.exact("first"), form.exact("second")), 200
    try:
        _count(hub, request, visitor)
        tried = _tried(shown, asked, predictions, form)
    except HubError as error:
        tried, code = replace(tried, problem=str(error)), status(error)
    if request.headers.get("x-part") == _PART:
        return page(request, visitor, "answer", status=code, headers={"X-Part": _PART}, trial=tried, blank=asked)
    return adapter_of(request, visitor, hub, owner, name, form["revision"] or "main", tried, code)


def _tried(shown: View, asked: Blank | None, predictions: trying.Predictions, form: Fields) -> Trial:
    if asked is None:
        raise HubUnreachableError("no server runs this adapter at the moment: try again later")
    first, second = form.exact("first"), form.exact("second")
    answer = predictions.ask(f"{shown.repository.full_name}@{shown.commit.oid}", asked.input(first, second))
    return trying.trial(asked, first, second, answer)


def _count(hub: Hub, request: Request, visitor: Visitor) -> None:
    """Count a trial.

    Raises:
        RateLimitError: if there were too many.
    """
    host = network(request.client.host) if request.client is not None else ""
    with hub.database.write() as session:
        limits.attempt(session, f"trials of {visitor.actor.name if visitor.signed_in else host}", TRIALS)
