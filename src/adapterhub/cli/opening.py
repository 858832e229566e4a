"""The hub that a command is about."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from adapterhub.hub.server.hub import Hub
    from adapterhub.hub.server.settings import Settings

Directory = Annotated[
    Path, typer.Option("--dir", "-d", help="The folder of its database, files and secret.", metavar="DIR")
]


def settings(directory: Path) -> "Settings":
    """Those of the hub in a folder; all but the folder come from the environment."""
    from adapterhub.errors import HubError

    try:
        from adapterhub.hub.server.hub import Settings
    except ModuleNotFoundError as error:
        raise HubError("a hub needs more packages: pip install 'adapterhub[hub]'") from error
    return Settings(directory=directory.expanduser())


@contextmanager
def opened(directory: Path) -> "Iterator[Hub]":
    """The hub in a folder."""
    given = settings(directory)
    from adapterhub.hub.server.hub import Hub

    hub = Hub.open(given)
    try:
        yield hub
    finally:
        hub.close()
