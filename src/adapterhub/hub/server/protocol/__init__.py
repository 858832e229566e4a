"""The protocol of the Hugging Face Hub, as its stock clients speak it."""

from fastapi import FastAPI

from adapterhub.hub.server.protocol import (
    absent,
    cards,
    committing,
    history,
    listing,
    managing,
    models,
    resolving,
    trees,
    whoami,
)


def add_routes(app: FastAPI) -> None:
    """Add all routes."""
    for room in (whoami, managing, listing, models, trees, history, committing, cards, absent):
        app.include_router(room.routes)
    app.include_router(committing.streams)
    resolving.add_routes(app)
