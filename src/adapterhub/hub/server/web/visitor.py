"""Who looks at a page: an account by a cookie, or a stranger; and the word that its forms have to bring along."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request
from starlette.responses import Response

from adapterhub.hub.server import accounts
from adapterhub.hub.server.actor import STRANGER, Actor
from adapterhub.hub.server.context import hub_of, public_url
from adapterhub.hub.server.errors import NotSignedInError

SESSION, STRANGER_COOKIE = "adapterhub_session", "adapterhub_visitor"
_SECONDS = accounts.SESSION_DAYS * 86400


@dataclass
class Visitor:
    """Who looks at a page.

    Attributes:
        actor: the account, or a stranger.
        csrf: what a form has to send back.
        cookie: what a stranger is to keep, if a form was shown and it has none yet.
    """

    actor: Actor = STRANGER
    csrf: str = ""
    cookie: str | None = None
    shown: bool = field(default=False, compare=False)

    @property
    def signed_in(self) -> bool:
        """Whether it is an account."""
        return self.actor.id is not None

    def form_word(self) -> str:
        """What a form of a page holds; that it was asked for is noted."""
        self.shown = True
        return self.csrf


def visitor_of(request: Request) -> Visitor:
    """Who looks at a page; found out once a request."""
    found: Visitor | None = getattr(request.state, "visitor", None)
    if found is None:
        found = request.state.visitor = _find(request)
    return found


def member_of(request: Request) -> Visitor:
    """Who looks at a page that only accounts have.

    Raises:
        NotSignedInError: for a stranger.
    """
    visitor = visitor_of(request)
    if not visitor.signed_in:
        raise NotSignedInError("sign in to see this page")
    return visitor


def sign_in(request: Request, response: Response, value: str) -> None:
    """Have a browser keep a session."""
    keep(request, response, SESSION, value)
    response.delete_cookie(STRANGER_COOKIE, path="/")


def sign_out(request: Request, response: Response) -> None:
    """End the session of a browser."""
    if value := request.cookies.get(SESSION):
        with hub_of(request).database.write() as session:
            accounts.end_session(session, value)
    response.delete_cookie(SESSION, path="/")


def keep_cookie(request: Request, response: Response, visitor: Visitor) -> None:
    """Have a stranger keep what its form will be checked with."""
    if visitor.shown and visitor.cookie is not None:
        keep(request, response, STRANGER_COOKIE, visitor.cookie)


def keep(request: Request, response: Response, name: str, value: str, seconds: int = _SECONDS) -> None:
    """Have a browser keep a cookie that scripts do not see, and that other sites do not make it send in forms."""
    secure = public_url(request).startswith("https://")
    response.set_cookie(name, value, max_age=seconds, path="/", httponly=True, samesite="lax", secure=secure)


def _find(request: Request) -> Visitor:
    hub = hub_of(request)
    if value := request.cookies.get(SESSION):
        with hub.database.read() as session:
            found = accounts.by_session(session, value)
            if found is not None:
                return Visitor(accounts.actor(found.account), found.csrf)
    given = request.cookies.get(STRANGER_COOKIE)
    value = given or secrets.token_urlsafe(24)
    word = hmac.new(hub.key.encode(), b"form of " + value.encode(), hashlib.sha256).hexdigest()
    return Visitor(csrf=word, cookie=None if given else value)


TheVisitor = Annotated[Visitor, Depends(visitor_of)]
TheMember = Annotated[Visitor, Depends(member_of)]
