"""The web site: pages made on the server."""

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response


def add_routes(app: FastAPI) -> None:
    """Add all pages."""


def error_page(request: Request, status: int, title: str, message: str, headers: dict[str, str]) -> Response:
    """An error as a page."""
    return HTMLResponse(f"<h1>{status} {title}</h1>", status, headers)
