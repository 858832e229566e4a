"""The server as a process."""

import json
import os
import signal
import tempfile
import threading
from collections.abc import Callable
from multiprocessing import parent_process
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr
from uvicorn.supervisors import Multiprocess

from adapterhub.http.listening import OPTIONS, listen, settle
from adapterhub.hub.server.app import create_app
from adapterhub.hub.server.settings import Settings

_METRICS = "PROMETHEUS_MULTIPROC_DIR"


def serve(settings: Settings, host: str, port: int, workers: int, ready: Callable[[int], None]) -> None:
    """Serve until the process is told to stop; several workers share the database and the store alone.

    ``ready`` is called with the port once it listens there; the port 0 stands for one that is free.
    """
    listener = listen(host, port)
    ready(listener.getsockname()[1])
    options = OPTIONS | {"forwarded_allow_ips": settings.trusted_proxies}
    if workers == 1:
        uvicorn.Server(uvicorn.Config(_application(settings), **options)).run([listener])
        return
    settings.signing_key()  # made once, before there are several who would
    os.environ.update(_environment(settings))
    config = uvicorn.Config(f"{__name__}:worker", factory=True, workers=workers, **options)
    with tempfile.TemporaryDirectory(prefix="adapterhub-metrics-") as folder:
        os.environ.setdefault(_METRICS, folder)
        Multiprocess(config, [listener]).run()


def worker() -> FastAPI:
    """The application of one of several workers, whose settings are in the environment."""
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    return _application(Settings())


def _application(settings: Settings) -> FastAPI:
    app = create_app(settings)
    settle()
    return app


def _end_with_parent() -> None:
    """End this worker when the process that started it is gone, which could end it no more."""
    if (parent := parent_process()) is not None:  # knows it even where the parent ended before this line
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _environment(settings: Settings) -> dict[str, str]:
    """What makes the same settings in another process."""
    made = {name: _plain(getattr(settings, name)) for name in settings.model_fields_set}
    return {
        f"ADAPTERHUB_{name.upper()}": json.dumps(value) if isinstance(value, dict | list) else str(value)
        for name, value in made.items()
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return value.get_secret_value() if isinstance(value, SecretStr) else value
