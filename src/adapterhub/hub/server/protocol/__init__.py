"""The protocol of the Hugging Face Hub, as its stock clients speak it."""

from fastapi import FastAPI

from adapterhub.hub.server.protocol import (
    absent,
    cards,
    committing,
    history,
    lfs,
    listing,
    managing,
    models,
    resolving,
    trees,
    upstream,
    whoami,
)
from adapterhub.hub.server.protocol.xet import routes as xet_routes


def add_routes(app: FastAPI) -> None:
    """Add all routes."""
    for room in (whoami, managing, listing, models, trees, history, committing, lfs, xet_routes, cards, absent):
        app.include_router(room.routes)
    resolving.add_routes(app)
    upstream.add_routes(app)
