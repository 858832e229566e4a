"""The server as a process."""

from collections.abc import Callable

import uvicorn

from adapterhub.errors import ServingError
from adapterhub.http.listening import OPTIONS, listen, settle
from adapterhub.serving.app import create_app
from adapterhub.serving.server import Server
from adapterhub.serving.settings import Settings


def serve(settings: Settings, host: str, port: int, ready: Callable[[int], None]) -> None:
    """Serve until the process is told to stop (SIGTERM): what came before is answered then, and no more is taken.

    ``ready`` is called with the port once the model is there; the port 0 stands for one that is free.

    Raises:
        AdapterHubError: as ``Server.open``.
        OSError: if nothing can listen there.
    """
    with listen(host, port) as listener:
        app = create_app(Server.open(settings))
        settle()
        ready(listener.getsockname()[1])
        config = uvicorn.Config(app, **OPTIONS, forwarded_allow_ips=settings.trusted_proxies)
        server = uvicorn.Server(config)
        server.run([listener])
    if not server.started:
        raise ServingError("the server could not start; what is said above is why")
