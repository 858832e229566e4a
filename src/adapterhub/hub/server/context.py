"""What a route needs of a request: the hub, and who asks."""

from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from adapterhub.http.headers import bearer
from adapterhub.hub.server import accounts
from adapterhub.hub.server.actor import STRANGER, Actor
from adapterhub.hub.server.downloads import Downloads
from adapterhub.hub.server.hub import Hub


def hub_of(connection: HTTPConnection) -> Hub:
    """The hub that the request came to."""
    hub: Hub = connection.app.state.hub
    return hub


def downloads_of(connection: HTTPConnection) -> Downloads:
    """Where downloads are counted."""
    downloads: Downloads = connection.app.state.downloads
    return downloads


def actor_of(connection: HTTPConnection) -> Actor:
    """Who asks, by a token; one that is not ours (a user's of another hub, say) is a stranger's, and not kept."""
    value = bearer(connection)
    return STRANGER if value is None else accounts.by_token(hub_of(connection).database, value)


def public_url(connection: HTTPConnection) -> str:
    """The address of the hub as users see it, without a slash at its end."""
    return hub_of(connection).settings.public_url.rstrip("/") or str(connection.base_url).rstrip("/")


TheHub = Annotated[Hub, Depends(hub_of)]
TheActor = Annotated[Actor, Depends(actor_of)]
