"""``adapterhub hub``: copies of a whole hub."""

from pathlib import Path
from typing import Annotated

import typer

from adapterhub.cli.command import command
from adapterhub.cli.opening import Directory, opened, settings
from adapterhub.cli.screen import Screen

Folder = Annotated[Path, typer.Argument(help="The folder of the backup.", metavar="FOLDER")]


@command
def backup(screen: Screen, folder: Folder, directory: Directory = Path("hub")) -> None:
    """Copy a hub into a folder, while it serves; what is there already from the last time is not copied again."""
    from adapterhub.hub.server.jobs.backup import back_up

    with opened(directory) as hub, screen.progress() as progress:
        made = back_up(hub, folder.expanduser(), progress)
    rows = sum(rows for rows, _ in made.tables.values())
    screen.show(
        {"folder": str(folder), "made": made.made, "rows": rows, "files": made.blobs, "bytes": made.bytes},
        f"Backed up {rows:,} rows and {made.blobs:,} files ({made.bytes:,} bytes) into {folder}.",
    )


@command
def restore(screen: Screen, folder: Folder, directory: Directory = Path("hub")) -> None:
    """Fill an empty hub from a backup, which may have been made from another kind of database or store."""
    from adapterhub.hub.server.jobs.restoring import restore as do

    with screen.progress() as progress:
        made = do(folder.expanduser(), settings(directory), progress)
    screen.show(
        {"made": made.made, "files": made.blobs, "bytes": made.bytes},
        f"Restored the hub as it was at {made.made}, with {made.blobs:,} files.",
    )
