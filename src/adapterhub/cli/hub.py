"""``adapterhub hub``: to run a hub, on the machine that it runs on."""

import getpass
import sys
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from adapterhub.cli import hub_copies
from adapterhub.cli.command import command
from adapterhub.cli.opening import Directory, opened
from adapterhub.cli.screen import Screen

app = typer.Typer(help="Run a hub: a server and web site for adapters.", no_args_is_help=True)
users = typer.Typer(help="The users of a hub.", no_args_is_help=True)
app.add_typer(users, name="user")

app.command()(hub_copies.backup)
app.command()(hub_copies.restore)


@app.command()
@command
def serve(
    screen: Screen,
    directory: Directory = Path("hub"),
    host: Annotated[str, typer.Option(help="The address to listen at.", metavar="HOST")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen at.", metavar="PORT")] = 8400,
    workers: Annotated[int, typer.Option(min=1, help="Processes that answer.", metavar="N")] = 1,
) -> None:
    """Serve a hub. All other settings come from the environment: ADAPTERHUB_DATABASE, ADAPTERHUB_STORAGE and more.

    [bold]adapterhub hub serve --dir ~/hub[/bold]
    """
    from adapterhub.hub.server.serving import serve as do
    from adapterhub.hub.server.setup import setup_code

    with opened(directory) as hub:
        settings, first = hub.settings, setup_code(hub)

    def ready(port: int) -> None:
        address = settings.public_url or f"http://{host}:{port}"
        screen.say(f"The hub is at {address}")
        if first:
            screen.say(f"There is no user yet. Make the one who administers it at\n  {address}/setup?code={first}")

    do(settings, host, port, workers, ready)


@users.command("add")
@command
def add_user(
    screen: Screen,
    name: Annotated[str, typer.Argument(help="The name of the user.", metavar="NAME")],
    directory: Directory = Path("hub"),
    email: Annotated[str, typer.Option(help="An address of the user.", metavar="EMAIL")] = "",
    admin: Annotated[bool, typer.Option("--admin", help="The user administers the server.")] = False,
    password: Annotated[
        bool, typer.Option("--password", help="Ask for a password, or read one from standard input.")
    ] = False,
) -> None:
    """Add a user, who without a password signs in by tokens alone."""
    from adapterhub.hub.server import accounts

    secret = _password() if password else None
    with opened(directory) as hub, hub.database.write() as session:
        made = accounts.add_user(session, name, secret, email=email, admin=admin)
        screen.show({"name": made.name, "admin": admin}, f"Added {made.name}.")


@app.command()
@command
def token(
    screen: Screen,
    user: Annotated[str, typer.Option("--user", "-u", help="Whose token it is.", metavar="NAME", show_default=False)],
    directory: Directory = Path("hub"),
    scope: Annotated[str, typer.Option(help="What it is for: read, write or admin.", metavar="SCOPE")] = "read",
    name: Annotated[str, typer.Option(help="What the user will know it by.", metavar="TEXT")] = "command line",
) -> None:
    """Make a token of a user, and print it: it is shown this once."""
    from adapterhub.hub.server import accounts

    with opened(directory) as hub, hub.database.write() as session:
        made = accounts.new_token(session, accounts.account(session, user), name, scope)  # type: ignore[arg-type]
        screen.show({"token": made}, made)


@app.command("gc")
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


def _password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    first, second = getpass.getpass("Password: "), getpass.getpass("Again: ")
    if first != second:
        raise typer.BadParameter("the two differ", param_hint="--password")
    return first
