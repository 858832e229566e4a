"""The command that trains many adapters at once."""

from pathlib import Path
from typing import Annotated

import typer

from adapterhub.cli import tables
from adapterhub.cli.command import Resumable, model_command
from adapterhub.cli.options import (
    BatchSize,
    Data,
    LabelColumn,
    LabelNames,
    MaxLength,
    Model,
    TextColumn,
    announce,
    data_options,
    try_it,
)
from adapterhub.cli.screen import Screen

app = typer.Typer()


@app.command()
@model_command
def sweep(
    screen: Screen,
    data: Data,
    model: Model = "minilm",
    methods: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            "-a",
            help="A configuration of an adapter; once for each.",
            metavar="CONFIG",
            show_default="seq_bn",
        ),
    ] = None,
    rates: Annotated[
        str, typer.Option("--learning-rates", "--lr", help="Learning rates.", metavar="RATES")
    ] = "3e-4,1e-3,3e-3",
    seeds: Annotated[str, typer.Option(help="Seeds: [bold]0,1,2[/bold] or [bold]0-2[/bold].", metavar="SEEDS")] = "0",
    sizes: Annotated[
        str | None,
        typer.Option(
            help="Widths of the bottleneck, ranks, or lengths of a prefix, as the method has.",
            metavar="SIZES",
            show_default="that of the method",
        ),
    ] = None,
    epochs: Annotated[
        int, typer.Option(min=1, help="Epochs; the one that is best on validation counts.", metavar="N")
    ] = 5,
    batch_size: BatchSize = 32,
    max_length: MaxLength = 128,
    data_seed: Annotated[
        int, typer.Option(min=0, help="Seed of the order of rows, the same for all runs.", metavar="N")
    ] = 0,
    trunk_cache: Annotated[
        Path | None,
        typer.Option(
            "--trunk-cache",
            help="Compute what layers below all adapters give once, and keep it here for later sweeps.",
            metavar="FOLDER",
            show_default="no cache",
        ),
    ] = None,
    output: Annotated[
        Path,
        typer.Option("--output", "--out", "-o", help="The folder for the runs and the best adapter.", metavar="FOLDER"),
    ] = Path("runs/sweep"),
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    label_names: LabelNames = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Train anew what was done before.")] = False,
) -> None:
    r"""Train adapters with every learning rate, seed and size, all at once, and keep the best on validation.

    They train over one base model in one process, and each gives what it gives alone. Interrupted, the same command
    goes on where it stopped; with more values, it trains what is new.

    [bold]adapterhub sweep reviews.csv --learning-rates 3e-4,1e-3,3e-3 --seeds 0-3[/bold]

    [bold]adapterhub sweep reviews.csv --method "seq_bn\[leave_out=\[0,1,2]]" --sizes 16,32,64[/bold]
    """
    from adapterhub.training.data import load_data
    from adapterhub.training.grid import Grid
    from adapterhub.training.grid import sweep as do
    from adapterhub.training.settings import Settings
    from adapterhub.training.trainer import TrainingInterrupted
    from adapterhub.training.trunk_cache import TrunkCache

    grid = Grid(
        tuple(methods or ("seq_bn",)),
        tuple(_numbers(rates, "--learning-rates")),
        tuple(_whole(seeds, "--seeds")),
        tuple(_whole(sizes, "--sizes")) if sizes else (),
    )
    loaded = load_data(data, **data_options(text_column, label_column, label_names))
    announce(screen, loaded)
    settings = Settings(model, epochs=epochs, batch_size=batch_size, max_length=max_length, data_seed=data_seed)
    try:
        with screen.progress() as progress:
            cache = TrunkCache(trunk_cache, progress=progress) if trunk_cache is not None else None
            swept = do(
                loaded, grid, output, settings=settings, trunk_cache=cache, overwrite=overwrite, progress=progress
            )
    except TrainingInterrupted as error:
        raise Resumable(f"{error.checkpoint} is kept", screen.command(without=("--overwrite",))) from error
    places = {
        "adapter": swept.adapter,
        "results": output / "sweep.csv",
        "try it": try_it(screen, swept.adapter),
    }
    screen.show(swept.to_dict(), tables.grid(swept), "", tables.pairs(places))


def _numbers(text: str, option: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"write numbers with commas between them: {error}", param_hint=option) from error


def _whole(text: str, option: str) -> list[int]:
    """``0,2,4-6`` as numbers."""
    try:
        spans = [tuple(map(int, part.split("-"))) for part in text.split(",")]
        return [number for span in spans for number in range(span[0], span[-1] + 1)]
    except ValueError as error:
        raise typer.BadParameter(f"write 0,2 or 0-3, whole numbers: {error}", param_hint=option) from error
