"""Commands that speak with hubs: who one is there, and finding, fetching and publishing adapters."""

import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapterhub.cli import tables
from adapterhub.cli.command import command, model_command
from adapterhub.cli.screen import Screen

if TYPE_CHECKING:
    from adapterhub.hub.client.pulling import Pulled

app = typer.Typer()

Hub = Annotated[
    str | None,
    typer.Option(
        "--hub", help="The address of a hub.", metavar="URL", show_default="the one that you logged in to last"
    ),
]
Name = Annotated[
    str,
    typer.Argument(
        help="An adapter on a hub: [bold]sentiment/sst-2@ukp[/bold], [bold]lang/de@ukp[/bold], [bold]me/name[/bold], "
        "or the address of its page.",
        metavar="ID",
    ),
]
BaseModel = Annotated[
    str | None,
    typer.Option("--model", "-m", help="The base model that it has to fit.", metavar="NAME", show_default=False),
]


@app.command()
@command
def login(
    screen: Screen,
    url: Annotated[
        str | None, typer.Argument(help="The address of the hub.", metavar="URL", show_default=False)
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            "--token", help="A token of yours there; asked for if left out.", metavar="TOKEN", show_default=False
        ),
    ] = None,
) -> None:
    """Log in to a hub by a token, which is kept for you alone; a hub that you log in to is asked for adapters first.

    [bold]adapterhub login http://127.0.0.1:8400[/bold]
    """
    from adapterhub.hub.client.account import login as do

    secret = token or (getpass.getpass("Token: ") if sys.stdin.isatty() else sys.stdin.readline().strip())
    me = do(secret, url)
    screen.show(me, f"You are {me['name']} at {me['hub']}, with the scope {me['scope']}.")


@app.command()
@command
def logout(
    screen: Screen,
    url: Annotated[
        str | None, typer.Argument(help="The address of the hub.", metavar="URL", show_default=False)
    ] = None,
) -> None:
    """Forget a hub and the token for it."""
    from adapterhub.hub.client.account import logout as do

    gone = do(url)
    screen.show({"hub": gone}, f"Forgot {gone}.")


@app.command()
@command
def push(
    screen: Screen,
    folder: Annotated[Path, typer.Argument(help="The folder of a saved adapter or setup.", metavar="FOLDER")],
    target: Annotated[
        str,
        typer.Argument(
            help="Where to: [bold]sentiment/sst-2@me[/bold] (task/dataset@owner), [bold]lang/de@me[/bold], or "
            "[bold]me/name[/bold].",
            metavar="ID",
        ),
    ],
    name: Annotated[
        str | None,
        typer.Option(
            help="The name of its repository.", metavar="NAME", show_default="made of base, data set and method"
        ),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Show it to its owner alone.")] = False,
    message: Annotated[str, typer.Option("--message", help="What is new.", metavar="TEXT")] = "Upload of an adapter",
    branch: Annotated[
        str, typer.Option(help="The branch that it becomes the newest version of.", metavar="NAME")
    ] = "main",
    tag: Annotated[
        str | None, typer.Option(help="A name for this version.", metavar="NAME", show_default=False)
    ] = None,
    sign_with: Annotated[
        str | None,
        typer.Option(
            help="A private key (PEM) to sign the files with; or [bold]sigstore[/bold]: as who you are there.",
            metavar="KEY",
            show_default=False,
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            help="What its base model is called on a hub, if the files have a path for it.",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    hub: Hub = None,
) -> None:
    """Publish a saved adapter; it is checked here first, and then by the hub.

    [bold]adapterhub push runs/quickstart/adapter sentiment/sst-2@me[/bold]
    """
    from adapterhub.hub.client.pushing import push as do

    done = do(
        folder,
        target,
        name=name,
        private=private,
        message=message,
        branch=branch,
        tag=tag,
        sign_with=sign_with,
        base=base,
        hub=hub,
    )
    values = {"repository": done.repository, "commit": done.commit, "url": done.url, "load": done.identifier}
    screen.show(values, tables.pairs(values))


@app.command()
@command
def pull(
    screen: Screen,
    name: Name,
    model: BaseModel = None,
    version: Annotated[
        str | None, typer.Option(help="A tag, a branch or a commit.", metavar="NAME", show_default=False)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A folder to copy its files to.", metavar="FOLDER", show_default=False),
    ] = None,
    lock: Annotated[
        Path | None,
        typer.Option(help="A file that keeps which version this was.", metavar="FILE", show_default=False),
    ] = None,
    signed_by: Annotated[
        str | None,
        typer.Option(
            help="The account that has to have signed it; with --issuer, the Sigstore identity.",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    issuer: Annotated[
        str | None,
        typer.Option(help="Who says that the Sigstore identity is they.", metavar="URL", show_default=False),
    ] = None,
    verify_key: Annotated[
        Path | None,
        typer.Option(help="A public key (PEM) that it has to be signed with.", metavar="FILE", show_default=False),
    ] = None,
    hub: Hub = None,
) -> None:
    """Fetch an adapter, unless it is here already, and print its folder.

    [bold]adapterhub pull sentiment/sst-2@ukp --model roberta-base[/bold]
    """
    from adapterhub.hub.client.pulling import copy
    from adapterhub.hub.client.pulling import pull as do
    from adapterhub.hub.client.resolving import Wanted

    pulled = do(
        name,
        Wanted(base=model, version=version),
        hub=hub,
        lock=lock,
        signed_by=signed_by,
        issuer=issuer,
        verify_key=verify_key,
    )
    folder = pulled.folder if output is None else copy(pulled.folder, output)
    for reason in pulled.found.reasons if pulled.found else ():
        screen.say(reason)
    found = pulled.found
    signature = _signature(pulled)
    if signature is not None:
        screen.say(signature)
    values = {
        "folder": str(folder),
        "repository": None if found is None else found.repository,
        "commit": None if found is None else found.commit,
        "verdict": None if found is None else found.verdict,
        "signature": signature,
    }
    screen.show(values, str(folder))


def _signature(pulled: "Pulled") -> str | None:
    """What there is to say of the signature of an adapter."""
    from adapterhub.errors import HubUnreachableError
    from adapterhub.hub.client.signatures import told

    if pulled.signed is not None:
        return f"Signed {pulled.signed}, which was checked here."
    if pulled.found is None:
        return None
    try:
        said = told(pulled.found)
    except HubUnreachableError:
        return "Signed; the hub does not answer who by."
    if said["state"] == "valid":
        by = f"key {said['key']} of {said['by']}" if said["key"] else f"{said['by']} ({said['issuer']})"
        return f"Signed by {by}, as the hub says. Check that here with --signed-by or --verify-key."
    return "Not signed." if said["state"] == "none" else f"Signed, and the hub says of it: {said['state']}."


Task = Annotated[str | None, typer.Option("--task", help="Of a task.", metavar="NAME", show_default=False)]
Dataset = Annotated[str | None, typer.Option("--dataset", help="Of a data set.", metavar="NAME", show_default=False)]
Language = Annotated[str | None, typer.Option("--language", help="Of a language.", metavar="CODE", show_default=False)]
Method = Annotated[str | None, typer.Option("--method", help="Of a method.", metavar="NAME", show_default=False)]
Owner = Annotated[str | None, typer.Option("--owner", help="Of an owner.", metavar="NAME", show_default=False)]
Gone = Annotated[bool, typer.Option("--withdrawn", help="Those that were withdrawn.")]
Sort = Annotated[
    str | None,
    typer.Option(help="relevance, downloads, likes, updated, score or size.", metavar="BY", show_default=False),
]
Limit = Annotated[int, typer.Option(min=1, help="How many at most.", metavar="N")]


@app.command()
@command
def search(
    screen: Screen,
    words: Annotated[list[str], typer.Argument(help="Words to look for.", metavar="WORD")],
    task: Task = None,
    dataset: Dataset = None,
    language: Language = None,
    model: BaseModel = None,
    method: Method = None,
    owner: Owner = None,
    sort: Sort = None,
    limit: Limit = 20,
    hub: Hub = None,
) -> None:
    """Look for adapters on a hub by words.

    [bold]adapterhub search sentiment --model roberta-base[/bold]
    """
    _list(
        screen,
        " ".join(words),
        task=task,
        dataset=dataset,
        language=language,
        model=model,
        method=method,
        owner=owner,
        sort=sort,
        limit=limit,
        hub=hub,
    )


@app.command("list")
@command
def list_(
    screen: Screen,
    task: Task = None,
    dataset: Dataset = None,
    language: Language = None,
    model: BaseModel = None,
    method: Method = None,
    owner: Owner = None,
    withdrawn: Gone = False,
    sort: Sort = None,
    limit: Limit = 50,
    hub: Hub = None,
) -> None:
    """List the adapters of a hub.

    [bold]adapterhub list --task nli[/bold]
    """
    _list(
        screen,
        "",
        task=task,
        dataset=dataset,
        language=language,
        model=model,
        method=method,
        owner=owner,
        withdrawn=withdrawn,
        sort=sort,
        limit=limit,
        hub=hub,
    )


def _list(screen: Screen, words: str, **narrowed: Any) -> None:
    """Show the adapters of a hub that ``list_adapters`` gives for these arguments."""
    from dataclasses import asdict

    from adapterhub.hub.client.catalogue import list_adapters

    found = list_adapters(words, **narrowed)
    screen.show([asdict(one) for one in found], tables.listings(found) if found else "No adapter fits.")


@app.command()
@model_command
def verify(
    screen: Screen,
    name: Name,
    data: Annotated[
        str,
        typer.Option(
            "--data",
            "-d",
            help="Labelled text, as [bold]adapterhub evaluate[/bold] takes it.",
            metavar="DATA",
            show_default=False,
        ),
    ],
    split: Annotated[str, typer.Option(help="Which part of the data; all of it: all.", metavar="NAME")] = "test",
    dataset: Annotated[
        str | None,
        typer.Option(
            help="What the hub calls the data: task/dataset.", metavar="NAME", show_default="that of the adapter"
        ),
    ] = None,
    model: BaseModel = None,
    record: Annotated[bool, typer.Option(help="Tell the hub.")] = True,
    hub: Hub = None,
) -> None:
    """Measure a published classifier again, and have its hub keep the scores, with who measured them on what.

    [bold]adapterhub verify sentiment/rotten-tomatoes@ukp --data rotten_tomatoes[/bold]
    """
    from adapterhub.verifying import verify as do

    with screen.progress() as progress:
        found = do(name, data, split, model, dataset=dataset, hub=hub, record=record, progress=progress)
    shown = {metric: f"{100 * value:.1f} %" for metric, value in found["metrics"].items()}
    claims = {f"{metric} (claimed)": str(value) for metric, value in found["claimed"].items()}
    kept = {True: "verified", False: "a claim: the adapter is yours", None: "not told"}[found["verified"]]
    screen.show(found, tables.pairs({**shown, **claims, "rows": f"{found['rows']:,}", "at the hub": kept}))
