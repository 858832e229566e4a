"""The application: all routes over one server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

import adapterhub
from adapterhub.http.bodies import Bodies
from adapterhub.http.headers import Headers
from adapterhub.http.limits import Allowance, Limited
from adapterhub.http.observing import Observed
from adapterhub.serving import api, failures, page
from adapterhub.serving.errors import TooBusyError
from adapterhub.serving.limits import Limiter
from adapterhub.serving.server import Server


def create_app(server: Server) -> FastAPI:
    """The application over a server, which it starts and stops."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await server.start()
        yield
        await server.stop()

    app = FastAPI(
        title="adapterhub serve",
        version=adapterhub.__version__,
        summary="One base model, many adapters, mixed in every batch.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.server = server
    settings = server.settings
    failures.add_handlers(app)
    app.add_middleware(Bodies, limit=lambda path: settings.max_body_bytes, refuse=failures.answer)
    app.add_middleware(Limited, count=Limiter(settings).count, refuse=_too_many)
    app.add_middleware(Observed, log=settings.access_log)
    app.add_middleware(Headers)
    if settings.cors_origins:
        allowed = {"allow_methods": ["*"], "allow_headers": ["Authorization", "Content-Type"]}
        app.add_middleware(CORSMiddleware, allow_origins=settings.cors_origins, **allowed)  # type: ignore[arg-type]
    api.add_routes(app)
    app.include_router(page.router)
    return app


def _too_many(request: Request, allowance: Allowance) -> Response:
    return failures.answer(request, TooBusyError(str(allowance), allowance.seconds))
