"""``adapterhub hub``: what fills the catalogue, and brings it up to date."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from adapterhub.cli.command import command
from adapterhub.cli.opening import Directory, opened
from adapterhub.cli.screen import Screen


@command
def import_archive(
    screen: Screen,
    path: Annotated[Path, typer.Argument(help="The index of the archived AdapterHub.", metavar="ARCHIVE.tar.gz")],
    directory: Directory = Path("hub"),
) -> None:
    """Add the entries of the archived AdapterHub to the catalogue; their files stay where they are.

    [bold]adapterhub hub import-archive hub_archive.tar.gz --dir ~/hub[/bold]
    """
    from adapterhub.hub.server.catalogue.archive import import_archive as do

    with opened(directory) as hub:
        done = do(hub, path)
    screen.show(asdict(done), f"{done.new} entries are new, {done.updated} changed, {done.kept} stayed as they were.")


@command
def reindex(screen: Screen, directory: Directory = Path("hub")) -> None:
    """Read all adapters and cards anew, as after tasks were renamed, also while the hub is served."""
    from adapterhub.hub.server.actor import SERVER
    from adapterhub.hub.server.catalogue.reindexing import reindex as do

    with opened(directory) as hub:
        refused = do(hub, SERVER)
    lines = [f"{name} stayed as it was: {why}" for name, why in refused.items()]
    screen.show({"refused": refused}, "\n".join(lines) or "Every adapter is indexed anew.")
