"""The REST API of the hub itself, under ``/api/v1``."""

from fastapi import FastAPI

from adapterhub.hub.server.api import accounts, health, webhooks

_ROUTERS = (health.router, accounts.router, webhooks.router)


def add_routes(app: FastAPI) -> None:
    """Add all routes."""
    for router in _ROUTERS:
        app.include_router(router)
