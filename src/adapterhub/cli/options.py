"""Options that several commands have, and what several say."""

from pathlib import Path
from typing import Annotated, Any

import typer

from adapterhub.cli.screen import Screen

DATA = (
    "Labelled text: a CSV, TSV, JSON-lines or parquet file, a folder with [bold]train[/bold], "
    "[bold]validation[/bold] and [bold]test[/bold] files, a data set on the Hugging Face Hub, or "
    "[bold]reviews[/bold], which is shipped."
)
MODEL_HELP = (
    "The base model: a name on the Hugging Face Hub, a folder, or [bold]minilm[/bold], which comes as a package."
)
OTHER_MODEL_HELP = "Another base model than the one the adapter names."
ADAPTER_HELP = "The folder of a saved adapter."

Data = Annotated[str, typer.Argument(help=DATA, metavar="DATA")]
Model = Annotated[str, typer.Option("--model", "-m", help=MODEL_HELP, metavar="NAME")]
OtherModel = Annotated[
    str | None, typer.Option("--model", "-m", help=OTHER_MODEL_HELP, metavar="NAME", show_default=False)
]
Adapter = Annotated[Path, typer.Argument(help=ADAPTER_HELP, metavar="ADAPTER")]
TextColumn = Annotated[
    list[str] | None,
    typer.Option(
        "--text-column",
        help="The column with the text; given twice, the two make a pair.",
        metavar="NAME",
        show_default="found",
    ),
]
LabelColumn = Annotated[
    str | None, typer.Option("--label-column", help="The column with the class.", metavar="NAME", show_default="found")
]
LabelNames = Annotated[
    str | None,
    typer.Option(
        "--label-names",
        help="Names of classes that the data only numbers: [bold]negative,positive[/bold].",
        metavar="NAMES",
        show_default="those in the data",
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Rows a step, on average.", metavar="N")]
MaxLength = Annotated[int, typer.Option(min=4, help="Tokens of a text that are read.", metavar="N")]
Seed = Annotated[
    int, typer.Option(min=0, help="Seed of all that is random; the first, where there are several.", metavar="N")
]


def announce(screen: Screen, data: Any) -> None:
    """Say what the data are."""
    rows = ", ".join(f"{len(split):,} {name}" for name, split in data.splits.items())
    for line in (f"{data.name}: {rows} rows; labels {', '.join(data.labels)}", *data.notes):
        screen.say(line)


def try_it(screen: Screen, adapter: Path) -> str:
    """The command that uses an adapter."""
    return screen.command(arguments=("predict", str(adapter), "your own text"))


def data_options(text_column: list[str] | None, label_column: str | None, label_names: str | None) -> dict[str, Any]:
    """The arguments of ``load_data`` that were given."""
    columns = text_column[0] if text_column and len(text_column) == 1 else text_column
    names = [name.strip() for name in label_names.split(",")] if label_names else None
    options = {"text_column": columns, "label_column": label_column, "label_names": names}
    return {name: value for name, value in options.items() if value}
