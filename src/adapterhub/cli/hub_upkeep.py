"""``adapterhub hub``: how a hub is, and what keeps it well."""

from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from adapterhub.cli.command import command
from adapterhub.cli.opening import Directory, opened
from adapterhub.cli.screen import Screen


@command
def status(screen: Screen, directory: Directory = Path("hub")) -> None:
    """Show versions, counts and sizes, and what does not work."""
    from adapterhub.hub.server.status import status as of

    with opened(directory) as hub:
        told = of(hub)
    lines = [f"{name}: {value:,}" if isinstance(value, int) else f"{name}: {value}" for name, value in told.items()]
    screen.show(told, "\n".join(lines))


@command
def audit(
    screen: Screen,
    directory: Directory = Path("hub"),
    check: Annotated[bool, typer.Option("--check", help="Check that no entry was changed or taken out.")] = False,
    last: Annotated[int, typer.Option(min=1, help="How many to show.", metavar="N")] = 50,
) -> None:
    """Show who did what, the newest first."""
    from adapterhub.errors import HubError
    from adapterhub.hub.server import audit as log

    with opened(directory) as hub, hub.database.read() as session:
        if check and (broken := list(log.broken(session))):
            raise HubError(f"entries were changed, or some before them taken out: {', '.join(map(str, broken[:20]))}")
        found = log.entries(session, limit=last)
    if check:
        screen.show({"broken": []}, "Every entry is as it was written.")
        return
    lines = [f"{one.created:%Y-%m-%d %H:%M:%S}  {one.actor}  {one.action}  {one.subject}" for one in found]
    told = [
        {"id": one.id, "created": one.created, "actor": one.actor, "action": one.action, "subject": one.subject}
        | {"detail": one.detail}
        for one in found
    ]
    screen.show(told, "\n".join(lines) or "Nothing was done yet.")


@command
def scrub(screen: Screen, directory: Directory = Path("hub")) -> None:
    """Read all bytes in the store, to see whether they are what they were; the hub does so by itself every week."""
    from adapterhub.hub.server.jobs.scrubbing import scrub as do

    with opened(directory) as hub:
        do(hub, {})
    screen.show({"damaged": []}, "Every file is whole.")


@command
def collect_garbage(
    screen: Screen,
    directory: Directory = Path("hub"),
    hours: Annotated[
        float,
        typer.Option(min=0, help="Leave what is younger; under a few hours, uploads may be cut off.", metavar="N"),
    ] = 24,
) -> None:
    """Take away what was sent and never published, and what is left of deleted repositories, also while it is served.

    [bold]adapterhub hub gc --dir ~/hub[/bold]
    """
    from adapterhub.hub.server.jobs.collecting import collect

    with opened(directory) as hub:
        done = collect(hub, timedelta(hours=hours))
    screen.show(asdict(done), f"{done.blobs + done.strays:,} files went, {done.freed:,} bytes.")
