"""The commands. What they do lives elsewhere; imports that take time happen inside them."""

import json
import logging
import sys
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

import adapterhub
from adapterhub.errors import AdapterHubError

_EPILOG = "Exit codes: 0 done, 1 an error that is explained, 2 wrong usage, 130 interrupted."
app = typer.Typer(
    help="Adapters for any Hugging Face transformer.",
    epilog=_EPILOG,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


@dataclass
class _Output:
    """How to speak: for people on a terminal, or one JSON document on standard output."""

    json: bool = False
    quiet: bool = False
    debug: bool = False
    out: Console = None  # type: ignore[assignment]
    err: Console = None  # type: ignore[assignment]

    def say(self, text: str) -> None:
        """Tell a person what goes on."""
        if not self.quiet:
            self.err.print(text, style="dim", highlight=False)

    def result(self, values: Any, text: Any) -> None:
        """The outcome: ``values`` for a machine, ``text`` (anything that rich prints) for a person."""
        if self.json:
            print(json.dumps(values, indent=1, default=str))
        else:
            self.out.print(text, highlight=False)


output = _Output()
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else on standard output.")]
Model = Annotated[
    str, typer.Option(help="A name on the Hub, a folder, or [bold]minilm[/bold], which comes as a package.")
]
Data = Annotated[
    str,
    typer.Argument(
        help="A CSV, TSV, JSON-lines or parquet file, a folder of them, a Hub data set, or [bold]reviews[/bold]."
    ),
]
TextColumn = Annotated[str | None, typer.Option(help="The column with the text.")]
LabelColumn = Annotated[str | None, typer.Option(help="The column with the label.")]


def run() -> int:
    """Parse the arguments and run a command; returns the exit code."""
    output.out, output.err = Console(), Console(stderr=True)
    warnings.filterwarnings("ignore")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    try:
        return app(standalone_mode=False) or 0
    except AdapterHubError as error:
        if output.debug:
            raise
        output.err.print("[red]error:[/red] ", end="", highlight=False)
        output.err.print(str(error), markup=False, highlight=False, soft_wrap=True)
        return 1
    except (KeyboardInterrupt, typer.Abort) as error:
        cause = error.__cause__ or error
        output.err.print(str(cause) or "interrupted", markup=False, highlight=False, soft_wrap=True)
        return 130
    except typer.Exit as error:
        return error.exit_code
    except Exception as error:
        # A wrong usage: typer has its exceptions from click, its own copy or the package, by version.
        if not hasattr(error, "show") or not hasattr(error, "exit_code"):
            raise
        error.show()
        return error.exit_code


def _version(wanted: bool) -> None:
    if wanted:
        print(adapterhub.__version__)
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the outcome.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    output.debug, output.quiet = debug, quiet


@app.command()
def quickstart(
    model: Model = "minilm",
    data: Annotated[
        str, typer.Option(help="Data as for [bold]train[/bold]; by default the reviews that come with the package.")
    ] = "reviews",
    output_dir: Annotated[Path, typer.Option("--output", "-o", help="Where everything goes.")] = Path(
        "runs/quickstart"
    ),
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs at most; 8 for the shipped data, 5 for other.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Seeds; 1 for the shipped data, 3 for other.")] = None,
    as_json: Json = False,
) -> None:
    """Train an adapter, compare it with full fine-tuning, save, reload and use it, and leave a report.

    Example: [bold]adapterhub quickstart --data reviews.csv --model roberta-base[/bold]
    """
    from adapterhub.training.quickstart import quickstart as do

    output.json = as_json
    if data != "reviews":
        output.say(
            "each of three methods is tried with 3 learning rates, then run with more seeds: some 15 runs of minutes "
            "to hours, by the size of the data. Interrupted, the same command goes on where it stopped."
        )
    with _progress() as progress:
        done = do(model, data, output_dir, epochs=epochs, seeds=seeds, progress=progress, say=output.say)
    values = {"comparison": done.comparison.to_dict(), "adapter": done.adapter, "report": done.report}
    output.result(values | {"examples": done.examples}, _table(done.comparison))
    if not as_json:
        _show_predictions(done.examples)
        output.out.print(f"\nreport   {done.report}\nadapter  {done.adapter}", highlight=False)
        output.out.print(f'try it   adapterhub predict {done.adapter} "your own text"', markup=False, highlight=False)


@app.command()
def train(
    data: Data,
    output_dir: Annotated[Path, typer.Option("--output", "-o", help="Where the adapter goes.")] = Path("runs/train"),
    model: Model = "minilm",
    adapter: Annotated[
        str, typer.Option(help="Configuration, as [bold]'seq_bn\\[reduction_factor=6]'[/bold].")
    ] = "seq_bn",
    learning_rate: Annotated[float, typer.Option("--lr", min=0.0, help="Learning rate.")] = 1e-3,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs at most.")] = 5,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows a batch.")] = 32,
    max_length: Annotated[int, typer.Option(min=2, help="Tokens a text at most.")] = 128,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint in the output folder.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train an adapter to classify text, and save it with its head.

    Interrupting keeps the last checkpoint; the same command with [bold]--resume[/bold] goes on from there.

    Example: [bold]adapterhub train reviews.csv --model roberta-base --lr 3e-4 -o my-adapter[/bold]
    """
    from adapterhub.training.compare import write_json
    from adapterhub.training.data import load_data
    from adapterhub.training.quickstart import save_classifier
    from adapterhub.training.recipe import Settings, train_classifier
    from adapterhub.training.trainer import TrainingInterrupted

    output.json = as_json
    loaded = load_data(data, text_column=text_column, label_column=label_column)
    settings = Settings(model, adapter, learning_rate, epochs, batch_size, max_length, seed=seed)
    options: dict[str, Any] = {"resume": resume, "keep_optimizer": True}
    options["show_progress"] = not (output.quiet or as_json)
    try:
        trained = train_classifier(settings, loaded, output_dir, name=loaded.name, **options)
    except TrainingInterrupted as error:
        command = " ".join([*sys.argv[1:], *([] if resume else ["--resume"])])
        raise KeyboardInterrupt(f"interrupted; {error.checkpoint} is kept. Go on by: adapterhub {command}") from error
    folder = output_dir / "adapter"
    save_classifier(trained.model, trained.name, trained.tokenizer, settings, folder)
    write_json(output_dir / "metrics.json", asdict(trained.result))
    result = trained.result
    text = (
        f"test accuracy {100 * result.test_accuracy:.1f} %, macro F1 {100 * result.test_macro_f1:.1f} %, "
        f"{result.trained:,} parameters trained ({100 * result.trained / result.base:.2f} % of the model)\n"
        f"adapter  {folder}"
    )
    output.result(asdict(result) | {"adapter": folder}, text)


@app.command()
def evaluate(
    adapter: Annotated[Path, typer.Argument(help="The folder of a saved adapter.")],
    data: Data,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    model: Annotated[str | None, typer.Option(help="Another base model than the checkpoint names.")] = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    as_json: Json = False,
) -> None:
    """Accuracy and macro F1 of a saved adapter on labelled text."""
    from adapterhub.training.evaluation import evaluate_classifier

    output.json = as_json
    values = evaluate_classifier(adapter, data, split, model, text_column, label_column)
    text = (
        f"accuracy {100 * values['accuracy']:.1f} %, macro F1 {100 * values['macro_f1']:.1f} % on {values['rows']} rows"
    )
    output.result(values, text)


@app.command()
def predict(
    adapter: Annotated[Path, typer.Argument(help="The folder of a saved adapter.")],
    texts: Annotated[list[str] | None, typer.Argument(help="Texts to classify.")] = None,
    file: Annotated[
        Path | None, typer.Option(help="A file with a text a line; [bold]-[/bold] reads standard input.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Another base model than the checkpoint names.")] = None,
    as_json: Json = False,
) -> None:
    """Classify texts with a saved adapter.

    Example: [bold]adapterhub predict runs/quickstart/adapter "What a lovely kettle."[/bold]
    """
    from adapterhub.training.quickstart import load_classifier
    from adapterhub.training.quickstart import predict as do

    output.json = as_json
    lines = list(texts or [])
    if file is not None:
        stream = sys.stdin.read() if str(file) == "-" else _read(file)
        lines += [line for line in stream.splitlines() if line.strip()]
    if not lines:
        raise typer.BadParameter("give at least one text, or --file")
    loaded, tokenizer = load_classifier(adapter, model)
    answers = do(loaded, tokenizer, lines)
    if as_json:
        output.result(answers, None)
    else:
        _show_predictions(answers)


@app.command()
def compare(
    data: Data,
    model: Model = "minilm",
    methods: Annotated[
        list[str] | None,
        typer.Option(
            "--method", help="A configuration, [bold]full[/bold] or [bold]head[/bold]; may come several times."
        ),
    ] = None,
    rates: Annotated[
        list[str] | None,
        typer.Option(
            "--lr", help="Learning rates of one method, as [bold]full=2e-5,5e-5[/bold]; may come several times."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds.")] = 3,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs at most.")] = 5,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows a batch.")] = 32,
    output_dir: Annotated[Path, typer.Option("--output", "-o", help="Where runs and report go.")] = Path(
        "runs/compare"
    ),
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    as_json: Json = False,
) -> None:
    """Adapters against full fine-tuning and the head alone, each tuned alike.

    Finished runs are kept; the same command goes on where it was interrupted.

    Example: [bold]adapterhub compare reviews.csv --method seq_bn --method full --seeds 3[/bold]
    """
    from adapterhub.training.compare import compare as do
    from adapterhub.training.recipe import Settings
    from adapterhub.training.report import write_report

    output.json = as_json
    options = {"text_column": text_column, "label_column": label_column}
    with _progress() as progress:
        comparison = do(
            model,
            data,
            methods,
            seeds=seeds,
            learning_rates=_rates(rates or []),
            settings=Settings(epochs=epochs, batch_size=batch_size),
            data_options={name: value for name, value in options.items() if value},
            output_dir=output_dir,
            progress=progress,
        )
    report = write_report(comparison, output_dir / "report.html")
    output.result(comparison.to_dict(), _table(comparison))
    if not as_json:
        output.out.print(f"\nreport   {report}\nresults  {output_dir / 'comparison.json'}", highlight=False)


@app.command()
def sites(
    model: Annotated[str, typer.Argument(help="A name on the Hub, a folder, or a config.json; no weights are read.")],
    as_json: Json = False,
) -> None:
    """Show where adapters can act in a model."""
    from adapterhub.training.evaluation import sites_of

    output.json = as_json
    found = sites_of(model)
    output.result(found.to_dict(), str(found))


@app.command()
def summary(
    adapter: Annotated[Path, typer.Argument(help="The folder of a saved adapter.")], as_json: Json = False
) -> None:
    """Show what a saved adapter is: method, size, base model, head, labels."""
    from adapterhub.training.evaluation import describe_adapter

    output.json = as_json
    values = describe_adapter(adapter)
    width = max(map(len, values))
    output.result(values, "\n".join(f"{name:<{width}}  {value}" for name, value in values.items()))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"{path} could not be read: {error.strerror}", param_hint="--file") from error


def _rates(given: list[str]) -> dict[str, tuple[float, ...]]:
    """``full=2e-5,5e-5`` as a mapping; a configuration may hold ``=`` itself."""
    try:
        pairs = [text.rpartition("=") for text in given]
        return {name: tuple(map(float, values.split(","))) for name, _, values in pairs}
    except ValueError as error:
        raise typer.BadParameter(f"write METHOD=RATE,RATE: {error}", param_hint="--lr") from error


class _progress:  # noqa: N801 - used as a context manager
    """A bar over the runs of a comparison, on standard error."""

    def __enter__(self) -> Any:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (MofNCompleteColumn(), BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
        self.bar = Progress(*columns, console=output.err, disable=output.quiet)
        self.bar.start()
        self.task: Any = None
        return self.update

    def update(self, done: int, total: int, what: str) -> None:
        """Show that ``done`` of ``total`` runs are done and ``what`` comes."""
        if self.task is None:
            self.task = self.bar.add_task(what, total=total)
        self.bar.update(self.task, completed=done, total=total, description=what)

    def __exit__(self, *error: object) -> None:
        self.bar.stop()


def _table(comparison: Any) -> Any:
    from rich.table import Table

    from adapterhub.training.report import headline, row

    table = Table(title=headline(comparison), title_justify="left", title_style="bold", box=None, pad_edge=False)
    names = ("method", "accuracy", "trained", "share", "size", "time", "memory", "rate")
    headings = ("Method", "Test acc. (%)", "Trained", "Share", "To keep", "Training", "Memory", "Rate")
    columns = dict(zip(names, headings, strict=True))
    for name, heading in columns.items():
        table.add_column(heading, justify="left" if name == "method" else "right", no_wrap=name != "method")
    for method in comparison.methods:
        cells = row(method)
        label = cells["method"] + (f" ({cells['note']})" if cells["note"] else "")
        table.add_row(label.replace("[", r"\["), *(cells[name] for name in columns if name != "method"))
    return table


def _show_predictions(answers: Any) -> None:
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(overflow="fold")
    for answer in answers:
        table.add_row(answer["label"], f"{answer['score']:.2f}", answer["text"].replace("[", r"\["))
    output.out.print(table)
