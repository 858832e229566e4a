"""The protocol of the Hugging Face Hub, as its stock clients speak it."""

from fastapi import FastAPI

from adapterhub.hub.server.protocol import history, models, resolving, trees


def add_routes(app: FastAPI) -> None:
    """Add all routes."""
    for room in (models, trees, history):
        app.include_router(room.routes)
    resolving.add_routes(app)
