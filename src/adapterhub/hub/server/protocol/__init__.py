"""The protocol of the Hugging Face Hub, as its stock clients speak it."""

from fastapi import FastAPI


def add_routes(app: FastAPI) -> None:
    """Add all routes."""
