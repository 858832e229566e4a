"""The web site: pages made on the server, which work without JavaScript."""

from fastapi import FastAPI

from adapterhub.hub.server.web import pages
from adapterhub.hub.server.web.errors import error_page

__all__ = ["add_routes", "error_page"]


def add_routes(app: FastAPI) -> None:
    """Add all pages; those of owners and repositories, which take any path, come last."""
    for router in pages.ROUTERS:
        app.include_router(router, include_in_schema=False)
