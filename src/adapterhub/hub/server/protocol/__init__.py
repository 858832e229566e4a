"""The protocol of the Hugging Face Hub, as its stock clients speak it."""

from fastapi import FastAPI

from adapterhub.hub.server.protocol import lfs, xet


def add_routes(app: FastAPI) -> None:
    """Add all routes."""
    app.include_router(lfs.router)
    app.include_router(xet.router)
