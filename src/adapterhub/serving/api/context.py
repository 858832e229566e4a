"""What a route needs of a request: the server, for whoever may ask."""

from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from adapterhub.serving.server import Server


def server_of(connection: HTTPConnection) -> Server:
    """The server that the request came to."""
    server: Server = connection.app.state.server
    return server


def allowed(connection: HTTPConnection) -> Server:
    """The server, if the request may ask something of it.

    Raises:
        NoTokenError: if not.
    """
    server = server_of(connection)
    server.tokens.check(connection)
    return server


TheServer = Annotated[Server, Depends(allowed)]
