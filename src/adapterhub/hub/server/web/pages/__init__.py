"""The pages by what they are about; the routers in the order in which paths are tried."""

from adapterhub.hub.server.web.pages import (
    accounts,
    administration,
    assets,
    repositories,
    settings,
    signing,
    uploading,
    versions,
)

ROUTERS = (
    assets.router,
    signing.router,
    settings.router,
    administration.router,
    uploading.router,
    versions.router,
    repositories.router,
    accounts.router,
)
