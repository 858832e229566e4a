"""The API as it describes itself."""

from typing import Any

from fastapi import FastAPI

from adapterhub.hub.server import api


def description() -> Any:
    """The OpenAPI document; no hub is needed for it."""
    app = FastAPI(title="adapterhub", version="test")
    api.add_routes(app)
    return app.openapi()
