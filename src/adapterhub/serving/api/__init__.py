"""The API of a server: everything under ``/v1``, what the Hugging Face Hub's clients ask for, and how it is."""

from fastapi import FastAPI

from adapterhub.serving.api import adapters, embeddings, health, inference, model, predicting

_ROUTERS = (predicting.router, embeddings.router, inference.router, adapters.router, model.router, health.router)


def add_routes(app: FastAPI) -> None:
    """Add all routes."""
    for router in _ROUTERS:
        app.include_router(router)
