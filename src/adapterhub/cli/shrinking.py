"""The command that makes adapters smaller."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adapterhub.cli import tables
from adapterhub.cli.command import model_command
from adapterhub.cli.options import DATA, Adapter, LabelColumn, LabelNames, OtherModel, TextColumn, data_options
from adapterhub.cli.screen import Screen

if TYPE_CHECKING:
    from adapterhub.training.shrinking import Shrunk

app = typer.Typer()


@app.command()
@model_command
def shrink(
    screen: Screen,
    adapter: Adapter,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder of the smaller one.", metavar="FOLDER")],
    dtype: Annotated[
        str, typer.Option(help="[bold]bfloat16[/bold], [bold]int8[/bold] or [bold]int4[/bold].", metavar="TYPE")
    ] = "int8",
    keep: Annotated[
        float, typer.Option(help="The share of hidden units of a bottleneck that is kept.", metavar="SHARE")
    ] = 1.0,
    max_drop: Annotated[
        float | None,
        typer.Option(
            help="Find the smallest one that loses at most so many points of accuracy on validation.",
            metavar="POINTS",
            show_default=False,
        ),
    ] = None,
    data: Annotated[str | None, typer.Option("--data", "-d", help=DATA, metavar="DATA", show_default=False)] = None,
    model: OtherModel = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    label_names: LabelNames = None,
) -> None:
    """Make a saved adapter and its head smaller: in fewer bits, narrower, or as small as its accuracy allows.

    With labelled text it is measured before and after; without, values are stored in fewer bits and nothing is run.

    [bold]adapterhub shrink runs/train/adapter -o small --dtype int8[/bold]

    [bold]adapterhub shrink runs/train/adapter -o small --max-drop 0.3 --data reviews.csv[/bold]
    """
    from adapterhub.checkpoints import storage
    from adapterhub.training.shrinking import Shrinking, Shrunk, store, version

    if data is None:
        if keep != 1 or max_drop is not None:
            raise typer.BadParameter("--keep and --max-drop look at labelled text: give --data", param_hint="--data")
        before, after = version(adapter, 1.0), store(adapter, output, storage(dtype))
        _show(screen, Shrunk(before, after), output)
        return
    with screen.progress() as progress:
        options = data_options(text_column, label_column, label_names)
        shrinking = Shrinking(adapter, data, model, data_options=options, progress=progress)
        if max_drop is not None:
            shrunk = shrinking.smallest(output, max_drop / 100)
        else:
            shrunk = Shrunk(shrinking.before, shrinking.make(output, keep, storage(dtype)))
    _show(screen, shrunk, output)


def _show(screen: Screen, shrunk: "Shrunk", output: Path) -> None:
    before, after = shrunk.before, shrunk.after
    text = {
        "stored": f"{after.bytes:,} bytes, {100 * after.bytes / before.bytes:.0f} % of {before.bytes:,}",
        "values": f"{after.dtype or 'as they were'}, {after.parameters:,} of {before.parameters:,} parameters",
        "validation": None
        if before.accuracy is None or after.accuracy is None
        else f"accuracy {100 * after.accuracy:.1f} %, before {100 * before.accuracy:.1f} %",
        "adapter": output,
    }
    versions = tables.versions(shrunk.tried) if shrunk.tried else ""
    screen.show(asdict(shrunk) | {"adapter": output}, versions, tables.pairs(text))
