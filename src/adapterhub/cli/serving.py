"""``adapterhub serve``: one model with many adapters, over HTTP."""

from pathlib import Path
from typing import Annotated, Any

import typer

from adapterhub.cli.command import command
from adapterhub.cli.screen import Screen
from adapterhub.errors import ServingError


@command
def serve(
    screen: Screen,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="The base model: a name on the Hugging Face Hub, a folder, or [bold]minilm[/bold].",
            metavar="NAME",
            show_default="minilm",
        ),
    ] = None,
    adapters: Annotated[
        Path | None, typer.Option(help="A folder of folders of adapters.", metavar="DIR", show_default="none")
    ] = None,
    hub: Annotated[
        str | None,
        typer.Option(help="The address of a hub, for adapters not in the folder.", metavar="URL", show_default="none"),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="What the model runs on.", metavar="DEVICE", show_default="cpu")
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen at.", metavar="HOST")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen at.", metavar="PORT")] = 8500,
) -> None:
    """Serve a model with any number of adapters, each text by its own: an API, and a page to try it on.

    All other settings come from the environment: ADAPTERHUB_SERVING_TOKENS, ADAPTERHUB_SERVING_CORS_ORIGINS and more.

    [bold]adapterhub serve --model roberta-base --adapters ./adapters --hub http://127.0.0.1:8400[/bold]
    """
    try:
        from adapterhub.serving.process import serve as do
        from adapterhub.serving.settings import Settings
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("adapterhub"):
            raise
        raise ServingError("a server needs more packages: pip install 'adapterhub[serve]'") from error
    given: dict[str, Any] = {"model": model, "adapters": adapters, "hub": hub, "device": device}
    settings = Settings(**{name: value for name, value in given.items() if value is not None})

    def ready(port: int) -> None:
        screen.say(f"{settings.model} is served at http://{host}:{port}")

    do(settings, host, port, ready)
