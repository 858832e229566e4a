"""A server as a process."""

import gc
import socket
from typing import Any

# For uvicorn.
OPTIONS: dict[str, Any] = {
    "http": "adapterhub.http.connections:Connection",
    "log_level": "warning",
    "access_log": False,
    "server_header": False,
    "timeout_graceful_shutdown": 30,  # what is under way then ends
}


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; what comes before the application is there waits."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.create_server((host, port), family=family, backlog=2048)
    # Connections inherit it: a body that follows its head would else wait for the client's delayed acknowledgement.
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.set_inheritable(True)
    return made


def settle() -> None:
    """Leave what this process has made until now, which stays, out of all garbage collections to come.

    A full collection looks at every object there is: over 100 ms for the classes and functions of the libraries alone,
    in which no request is answered.
    """
    gc.collect()
    gc.freeze()
