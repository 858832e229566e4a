"""``adapterhub hub user``: the users of a hub."""

import getpass
import sys
from pathlib import Path
from typing import Annotated

import typer

from adapterhub.cli.command import command
from adapterhub.cli.opening import Directory, opened
from adapterhub.cli.screen import Screen

app = typer.Typer(help="The users of a hub.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The name of the user.", metavar="NAME")]


@app.command()
@command
def add(
    screen: Screen,
    name: Name,
    directory: Directory = Path("hub"),
    email: Annotated[str, typer.Option(help="An address of the user.", metavar="EMAIL")] = "",
    admin: Annotated[bool, typer.Option("--admin", help="The user administers the server.")] = False,
    password: Annotated[
        bool, typer.Option("--password", help="Ask for a password, or read one from standard input.")
    ] = False,
) -> None:
    """Add a user, who without a password signs in by tokens alone."""
    from adapterhub.hub.server import accounts, audit
    from adapterhub.hub.server.actor import SERVER

    secret = _password() if password else None
    with opened(directory) as hub, hub.database.write() as session:
        made = accounts.add_user(session, name, secret, email=email, admin=admin)
        audit.record(session, SERVER, "account.create", made.key, admin=admin)
    screen.show({"name": made.name, "admin": admin}, f"Added {made.name}.")


@app.command("list")
@command
def show(screen: Screen, directory: Directory = Path("hub")) -> None:
    """Show the users."""
    from sqlalchemy import select

    from adapterhub.hub.server.database import Account

    with opened(directory) as hub, hub.database.read() as session:
        found = list(session.scalars(select(Account).where(Account.kind == "user").order_by(Account.key)))
    told = [
        {"name": one.name, "email": one.email, "admin": one.is_admin, "disabled": one.disabled, "created": one.created}
        for one in found
    ]
    lines = [
        f"{one.name}{'  administrator' if one.is_admin else ''}{'  disabled' if one.disabled else ''}" for one in found
    ]
    screen.show(told, "\n".join(lines) or "There are no users.")


@app.command()
@command
def disable(screen: Screen, name: Name, directory: Directory = Path("hub")) -> None:
    """Lock a user out: no password, token or session works any more."""
    _set_disabled(screen, name, directory, True)


@app.command()
@command
def enable(screen: Screen, name: Name, directory: Directory = Path("hub")) -> None:
    """Let a user in again."""
    _set_disabled(screen, name, directory, False)


@app.command()
@command
def password(screen: Screen, name: Name, directory: Directory = Path("hub")) -> None:
    """Give a user another password, asked for or read from standard input; whoever is signed in is signed out."""
    from adapterhub.hub.server import accounts, audit
    from adapterhub.hub.server.actor import SERVER

    secret = _password()
    with opened(directory) as hub, hub.database.write() as session:
        user = accounts.account(session, name)
        accounts.set_password(session, user, secret)
        audit.record(session, SERVER, "account.password", user.key)
    screen.show({"name": user.name}, f"{user.name} has another password.")


@app.command()
@command
def admin(
    screen: Screen,
    name: Name,
    directory: Directory = Path("hub"),
    no: Annotated[bool, typer.Option("--no", help="Not any more.")] = False,
) -> None:
    """Have a user administer the server."""
    from adapterhub.hub.server import accounts, audit
    from adapterhub.hub.server.actor import SERVER

    with opened(directory) as hub, hub.database.write() as session:
        user = accounts.account(session, name)
        user.is_admin = not no
        audit.record(session, SERVER, "account.admin", user.key, admin=not no)
    words = "administers the server no longer" if no else "administers the server"
    screen.show({"name": user.name, "admin": not no}, f"{user.name} {words}.")


def _set_disabled(screen: Screen, name: str, directory: Path, disabled: bool) -> None:
    from adapterhub.hub.server import accounts, audit
    from adapterhub.hub.server.actor import SERVER

    with opened(directory) as hub, hub.database.write() as session:
        user = accounts.account(session, name)
        accounts.set_disabled(session, user, disabled)
        audit.record(session, SERVER, "account.disable" if disabled else "account.enable", user.key)
    words = "is locked out" if disabled else "is let in again"
    screen.show({"name": user.name, "disabled": disabled}, f"{user.name} {words}.")


def _password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    first, second = getpass.getpass("Password: "), getpass.getpass("Again: ")
    if first != second:
        raise typer.BadParameter("the two differ", param_hint="--password")
    return first
