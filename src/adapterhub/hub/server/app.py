"""The application: all routes over one hub."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

import adapterhub
from adapterhub.hub.server import api, failures, protocol, web
from adapterhub.hub.server.catalogue import columns
from adapterhub.hub.server.downloads import Downloads
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.jobs.kinds import kinds
from adapterhub.hub.server.jobs.runner import Runner
from adapterhub.hub.server.limits import Limiter
from adapterhub.hub.server.middleware import add_middleware
from adapterhub.hub.server.predictions import Predictions
from adapterhub.hub.server.readiness import Readiness
from adapterhub.hub.server.settings import Settings


def create_app(settings: Settings) -> FastAPI:
    """The application of a hub; its database is brought to the newest form first."""
    hub = Hub.open(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        beside: tuple[Runner | Downloads | Limiter, ...] = (Runner(hub, kinds(settings)), app.state.downloads, limiter)
        for one in beside:
            one.start()
        columns.read_ahead(hub.database)
        yield
        for one in beside:
            one.stop()
        app.state.predictions.close()
        hub.close()

    app = FastAPI(
        title="adapterhub",
        version=adapterhub.__version__,
        summary="A hub of adapters: publish, browse, search, check and load.",
        lifespan=lifespan,
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    app.state.hub, app.state.downloads, app.state.readiness = hub, Downloads(hub.database), Readiness(hub)
    app.state.predictions = Predictions(settings)
    limiter = Limiter(hub.database, settings)
    failures.add_handlers(app)
    add_middleware(app, hub, limiter)
    api.add_routes(app)
    protocol.add_routes(app)
    web.add_routes(app)
    return app
