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
    whoami,
    xet,
)


def add_routes(app: FastAPI) -> None:
    """Add all routes."""
    for room in (whoami, managing, listing, models, trees, history, committing, cards, absent):
        app.include_router(room.routes)
    for streams in (committing.streams, lfs.router, xet.router):
        app.include_router(streams)
    resolving.add_routes(app)
