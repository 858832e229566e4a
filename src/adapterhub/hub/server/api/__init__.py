"""The REST API of the hub itself, under ``/api/v1``."""

from fastapi import FastAPI

from adapterhub.hub.server.api import health


def add_routes(app: FastAPI) -> None:
    """Add all routes."""
    app.include_router(health.router)
