"""The protocol of the Hugging Face Hub, as its stock clients speak it."""

from fastapi import FastAPI

from adapterhub.hub.server.protocol import history, lfs, models, resolving, trees, xet


def add_routes(app: FastAPI) -> None:
    """Add all routes."""
    for room in (models, trees, history):
        app.include_router(room.routes)
    app.include_router(lfs.router)
    app.include_router(xet.router)
    resolving.add_routes(app)
