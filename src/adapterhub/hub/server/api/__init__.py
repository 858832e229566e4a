"""The REST API of the hub itself, under ``/api/v1``."""

from fastapi import FastAPI

from adapterhub.hub.server.api import (
    accounts,
    adapters,
    audit,
    bases,
    catalogue,
    health,
    keys,
    resolving,
    scores,
    taxonomy,
    webhooks,
)

_ROUTERS = (
    health.router,
    accounts.router,
    keys.router,
    adapters.routes,
    resolving.routes,
    bases.routes,
    scores.routes,
    catalogue.routes,
    taxonomy.routes,
    webhooks.router,
    audit.router,
)


def add_routes(app: FastAPI) -> None:
    """Add all routes."""
    for router in _ROUTERS:
        app.include_router(router)
