"""``adapterhub hub``: to run a hub, on the machine that it runs on."""

from pathlib import Path
from typing import Annotated

import typer

from adapterhub.cli import hub_catalogue, hub_copies, hub_mirrors, hub_upkeep, hub_users
from adapterhub.cli.command import command
from adapterhub.cli.opening import Directory, opened
from adapterhub.cli.screen import Screen

app = typer.Typer(help="Run a hub: a server and web site for adapters.", no_args_is_help=True)
app.add_typer(hub_users.app, name="user")
app.add_typer(hub_mirrors.app, name="mirror")

app.command()(hub_catalogue.import_archive)
app.command()(hub_catalogue.reindex)
app.command()(hub_copies.backup)
app.command()(hub_copies.restore)
app.command()(hub_upkeep.status)
app.command()(hub_upkeep.audit)
app.command()(hub_upkeep.scrub)
app.command("gc")(hub_upkeep.collect_garbage)


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
    from adapterhub.hub.server import accounts, audit
    from adapterhub.hub.server.actor import SERVER

    with opened(directory) as hub, hub.database.write() as session:
        owner = accounts.account(session, user)
        made = accounts.new_token(session, owner, name, scope)  # type: ignore[arg-type]
        audit.record(session, SERVER, "token.create", owner.key, scope=scope)
        screen.show({"token": made}, made)
