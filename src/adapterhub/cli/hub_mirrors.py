"""``adapterhub hub mirror``: copies of adapters of other hubs."""

from pathlib import Path
from typing import Annotated, Any

import typer

from adapterhub.cli.command import command
from adapterhub.cli.opening import Directory, opened
from adapterhub.cli.screen import Screen

app = typer.Typer(help="Copies of chosen adapters of other hubs.", no_args_is_help=True)

Number = Annotated[int, typer.Argument(help="Of the mirror, as [bold]list[/bold] shows it.", metavar="N")]


@app.command()
@command
def add(
    screen: Screen,
    upstream: Annotated[str, typer.Argument(help="The address of the other hub.", metavar="URL")],
    pattern: Annotated[
        str,
        typer.Argument(
            help="owner/name, where the name may hold [bold]*[/bold]; or [bold]?[/bold] and words to search.",
            metavar="PATTERN",
        ),
    ],
    directory: Directory = Path("hub"),
    into: Annotated[
        str | None,
        typer.Option(help="The account that owns the copies.", metavar="NAME", show_default="the owner there"),
    ] = None,
) -> None:
    """Keep a copy of adapters of another hub. The hub copies them within a day; [bold]refresh[/bold] does it now.

    [bold]adapterhub hub mirror add https://huggingface.co "AdapterHub/bert-base-uncased-*"[/bold]
    """
    from adapterhub.hub.server import mirrors
    from adapterhub.hub.server.actor import SERVER

    with opened(directory) as hub, hub.database.write() as session:
        made = mirrors.add(session, hub.settings, SERVER, upstream, pattern, into)
        screen.show({"id": made.id, "upstream": made.upstream, "pattern": made.pattern}, f"Added mirror {made.id}.")


@app.command("list")
@command
def show(screen: Screen, directory: Directory = Path("hub")) -> None:
    """Show the mirrors, what they hold, and what was left out and why."""
    from adapterhub.hub.server import mirrors

    with opened(directory) as hub, hub.database.read() as session:
        told: list[dict[str, Any]] = []
        lines: list[str] = []
        for one, holds in mirrors.all_of(session):
            when = f"refreshed {one.refreshed:%Y-%m-%d %H:%M}" if one.refreshed else "not refreshed yet"
            lines.append(f"{one.id}  {one.upstream}  {one.pattern}  {when}{_because(one.error)}")
            told.append({"id": one.id, "upstream": one.upstream, "pattern": one.pattern, "into": one.into})
            told[-1] |= {"refreshed": one.refreshed, "error": one.error, "repositories": []}
            for copy in holds:
                lines.append(f"   {copy.name}{_because(copy.error)}")
                lines += [f"      without {path}: {why}" for path, why in copy.skipped.items()]
                told[-1]["repositories"].append(
                    {"name": copy.name, "refs": copy.refs, "skipped": copy.skipped, "error": copy.error}
                )
    screen.show(told, "\n".join(lines) or "There are no mirrors.")


@app.command()
@command
def refresh(screen: Screen, number: Number, directory: Directory = Path("hub")) -> None:
    """Bring the copies of a mirror up to date."""
    from adapterhub.hub.server.jobs.mirror import refresh as do

    told: list[dict[str, str]] = []

    def report(name: str, what: str) -> None:
        told.append({"name": name, "outcome": what})
        screen.say(f"{name}: {what}")

    with opened(directory) as hub:
        do(hub, number, report)
    screen.show(told, f"Looked at {len(told):,} repositories.")


@app.command()
@command
def remove(screen: Screen, number: Number, directory: Directory = Path("hub")) -> None:
    """Keep a mirror no longer; the copies that there are stay."""
    from adapterhub.hub.server import mirrors
    from adapterhub.hub.server.actor import SERVER

    with opened(directory) as hub, hub.database.write() as session:
        mirrors.remove(session, SERVER, number)
    screen.show({"removed": number}, f"Removed mirror {number}.")


def _because(error: str) -> str:
    return f": {error}" if error else ""
