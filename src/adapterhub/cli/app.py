"""The commands. What they do lives elsewhere; imports that take time happen inside them."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

import adapterhub
from adapterhub.cli import hub, serving, sharing, shrinking, sweeping, tables
from adapterhub.cli.command import WRONG_USAGE, Resumable, model_command
from adapterhub.cli.options import (
    DATA,
    Adapter,
    BatchSize,
    Data,
    LabelColumn,
    LabelNames,
    MaxLength,
    Model,
    OtherModel,
    Seed,
    TextColumn,
    announce,
    data_options,
    try_it,
)
from adapterhub.cli.screen import Screen

app = typer.Typer(
    help="Adapters for any Hugging Face transformer: small trained parts over a frozen base model.",
    epilog="Exit codes: 0 done, 1 an error (in words on standard error), 2 wrong usage, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(sharing.app)
app.add_typer(sweeping.app)
app.add_typer(shrinking.app)
app.add_typer(hub.app, name="hub")
app.command()(serving.serve)


def run(arguments: Sequence[str]) -> int:
    """Parse the arguments and run a command; returns the exit code."""
    try:
        return app(list(arguments), prog_name="adapterhub", obj=tuple(arguments), standalone_mode=False) or 0
    except Exception as error:
        # Typer's own exceptions come from click or from its copy of it, by version; all of them can be shown.
        if not hasattr(error, "show"):
            raise
        if type(error).__name__ != "NoArgsIsHelpError":
            _usage(error)
        return WRONG_USAGE


def _usage(error: Any) -> None:
    from typer.rich_utils import rich_format_error

    rich_format_error(error)


def _version(wanted: bool) -> None:
    if wanted:
        print(adapterhub.__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command()
@model_command
def quickstart(
    screen: Screen,
    data: Annotated[str, typer.Option("--data", "-d", help=DATA, metavar="DATA")] = "reviews",
    model: Model = "minilm",
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder for all that comes out.", metavar="FOLDER")
    ] = Path("runs/quickstart"),
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Epochs of a run.", metavar="N", show_default="10 for the shipped data, else 5"),
    ] = None,
    seed: Seed = 0,
    seeds: Annotated[
        int | None,
        typer.Option(min=1, help="Number of seeds.", metavar="N", show_default="1 for the shipped data, else 3"),
    ] = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    label_names: LabelNames = None,
) -> None:
    """Train an adapter, compare it with full fine-tuning, save, reload and use it, and leave a report.

    With the shipped data it takes some minutes. Interrupted, the same command goes on where it stopped.

    [bold]adapterhub quickstart[/bold]

    [bold]adapterhub quickstart --data reviews.csv --model roberta-base[/bold]
    """
    from adapterhub.training.quickstart import quickstart as do

    try:
        with screen.progress() as progress:
            done = do(
                model,
                data,
                output,
                epochs=epochs,
                seed=seed,
                seeds=seeds,
                data_options=data_options(text_column, label_column, label_names),
                progress=progress,
                say=screen.say,
            )
    except KeyboardInterrupt as error:
        raise Resumable(f"finished runs are kept in {output}", screen.command()) from error
    values = {"comparison": done.comparison.to_dict(), "adapter": done.adapter, "report": done.report}
    places = {"report": done.report, "adapter": done.adapter, "try it": try_it(screen, done.adapter)}
    parts = (tables.comparison(done.comparison), "", tables.predictions(done.examples), "", tables.pairs(places))
    screen.show(values | {"examples": done.examples}, *parts)


@app.command()
@model_command
def train(
    screen: Screen,
    data: Data,
    model: Model = "minilm",
    adapter: Annotated[
        str,
        typer.Option(
            "--adapter",
            "-a",
            help="The configuration: a name, with changes in brackets or not, or a JSON file.",
            metavar="CONFIG",
        ),
    ] = "seq_bn",
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder for the adapter.", metavar="FOLDER")
    ] = Path("runs/train"),
    epochs: Annotated[
        int, typer.Option(min=1, help="Epochs; the one that is best on validation is kept.", metavar="N")
    ] = 5,
    learning_rate: Annotated[float, typer.Option("--lr", min=0.0, help="Learning rate.", metavar="RATE")] = 1e-3,
    batch_size: BatchSize = 32,
    max_length: MaxLength = 128,
    seed: Seed = 0,
    base_dropout: Annotated[
        bool,
        typer.Option("--base-dropout", help="Keep the dropout of the frozen model in training, which takes longer."),
    ] = False,
    fast: Annotated[
        bool,
        typer.Option("--fast", help="Adapt the upper two thirds of the layers; what lower ones give is computed once."),
    ] = False,
    trunk_cache: Annotated[
        Path | None,
        typer.Option(
            "--trunk-cache",
            help="Compute what layers below the lowest adapter give once, and keep it here for later runs.",
            metavar="FOLDER",
            show_default="with --fast in memory, else no cache",
        ),
    ] = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    label_names: LabelNames = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted training.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew over an interrupted training.")] = False,
) -> None:
    r"""Train an adapter to classify text, and save it with its head.

    Ctrl-C ends it after the step under way; a checkpoint is kept, and the command to go on is shown.

    [bold]adapterhub train reviews.csv -o my-adapter[/bold]

    [bold]adapterhub train reviews.csv --fast[/bold]

    [bold]adapterhub train reviews.csv --model roberta-base --adapter "seq_bn\[reduction_factor=8]" --lr 3e-4[/bold]
    """
    from dataclasses import asdict

    from adapterhub.inference.precision import FORMATS, training_precision
    from adapterhub.training.data import load_data
    from adapterhub.training.fast import fast as choose_fast
    from adapterhub.training.quickstart import duration
    from adapterhub.training.settings import Settings
    from adapterhub.training.single import ADAPTER, METRICS, train_adapter
    from adapterhub.training.trainer import TrainingInterrupted
    from adapterhub.training.trunk_cache import TrunkCache

    if resume and overwrite:
        raise typer.BadParameter("--resume and --overwrite exclude each other", param_hint="--resume")
    if base_dropout and (fast or trunk_cache):
        raise typer.BadParameter("what is kept was computed without dropout", param_hint="--base-dropout")
    loaded = load_data(data, **data_options(text_column, label_column, label_names))
    announce(screen, loaded)
    settings = Settings(
        model, adapter, learning_rate, epochs, batch_size, max_length, seed=seed, base_dropout=base_dropout
    )
    if fast:
        chosen = choose_fast(settings)
        settings = chosen.settings
        screen.say(chosen.trades)
    dropout = "as in training" if base_dropout else "without dropout"
    screen.say(f"computing in {FORMATS[training_precision(settings.precision)]}, the frozen model {dropout}")
    try:
        with screen.progress() as progress:
            trained = train_adapter(
                settings,
                loaded,
                output,
                resume=resume,
                overwrite=overwrite,
                progress=progress,
                trunk_cache=TrunkCache(trunk_cache, progress=progress) if fast or trunk_cache else None,
            )
    except TrainingInterrupted as error:
        again = screen.command("--resume", without=("--overwrite",))
        raise Resumable(f"{error.checkpoint} is kept", again) from error
    result = trained.result
    folder = output / ADAPTER
    text = {
        "test": f"accuracy {100 * result.test_accuracy:.1f} %, macro F1 {100 * result.test_macro_f1:.1f} %",
        "validation": f"accuracy {100 * result.validation_accuracy:.1f} %",
        "trained": f"{result.trained:,} parameters, {100 * result.trained / result.base:.2f} % of the model; "
        f"the head has {result.head:,} more",
        "time": f"{duration(result.seconds)}, computed in {FORMATS[result.precision]}",
        "note": "the loss ended where guessing would: nothing was learnt; try another --lr"
        if result.collapsed
        else None,
        "adapter": folder,
        "metrics": output / METRICS,
        "try it": try_it(screen, folder),
    }
    screen.show(asdict(result) | {"adapter": folder}, tables.pairs(text))


@app.command()
@model_command
def evaluate(
    screen: Screen,
    adapter: Adapter,
    data: Data,
    split: Annotated[
        str,
        typer.Option(
            help="[bold]train[/bold], [bold]validation[/bold], [bold]test[/bold] or [bold]all[/bold].", metavar="NAME"
        ),
    ] = "test",
    model: OtherModel = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    label_names: LabelNames = None,
) -> None:
    """Accuracy and macro F1 of a saved adapter on labelled text.

    [bold]adapterhub evaluate runs/train/adapter reviews.csv[/bold]
    """
    from adapterhub.training.evaluation import evaluate_classifier

    with screen.progress() as progress:
        options = data_options(text_column, label_column, label_names)
        values = evaluate_classifier(adapter, data, split, model, data_options=options, progress=progress)
    text = {
        "accuracy": f"{100 * values['accuracy']:.1f} %",
        "macro F1": f"{100 * values['macro_f1']:.1f} %",
        "rows": f"{values['rows']:,} ({values['data']}, {split})",
    }
    screen.show(values, tables.pairs(text))


@app.command()
@model_command
def predict(
    screen: Screen,
    adapter: Adapter,
    texts: Annotated[
        list[str] | None,
        typer.Argument(help="Texts to classify; [bold]-[/bold] reads standard input, a text a line.", metavar="TEXT"),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="A file with a text a line.", metavar="FILE", show_default=False)
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--in",
            "-i",
            help="A table of any size: text (a row a line), CSV, TSV, JSON lines or parquet.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    target: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Where the answers for [bold]--in[/bold] go: a .csv, .jsonl or .parquet file.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    text_column: TextColumn = None,
    precision: Annotated[
        str,
        typer.Option(help="auto, fp32, bf16 or int8; own for that of the model.", metavar="NAME"),
    ] = "auto",
    token_budget: Annotated[
        int | None,
        typer.Option(min=1, help="Tokens in a batch.", metavar="N", show_default="1024, on a GPU 32768"),
    ] = None,
    model: OtherModel = None,
) -> None:
    """Ask a saved adapter about texts: their class, or what else its head gives.

    An adapter that was trained on pairs of texts takes two with a tab between them. With --in and --out a file of any
    size is read and another one written; interrupted, the same command goes on where it stopped.

    [bold]adapterhub predict runs/quickstart/adapter "What a lovely kettle."[/bold]

    [bold]adapterhub predict runs/quickstart/adapter --json - < reviews.txt[/bold]

    [bold]adapterhub predict runs/quickstart/adapter --in reviews.csv --out answers.csv[/bold]
    """
    from adapterhub.training.classifier import load_trained, split_pairs
    from adapterhub.training.classifier import predict as do

    if (source is None) != (target is None) or (source and (texts or file)):
        raise typer.BadParameter("--in and --out go together, and without other texts", param_hint="--in")
    options: Any = {"precision": precision, "token_budget": token_budget}
    if source is not None and target is not None:
        _predict_file(screen, adapter, source, target, text_column, model, options)
        return
    lines = _lines(texts or [], file)
    if not lines:
        raise typer.BadParameter("give at least one text, or a file (--file, --in)", param_hint="TEXT")
    wanted = split_pairs(adapter, lines)
    loaded, tokenizer = load_trained(adapter, model)
    with screen.progress() as progress:
        answers = do(loaded, tokenizer, wanted, progress=progress if len(wanted) > 100 else None, **options)
    screen.show(answers, tables.predictions(answers))


def _predict_file(
    screen: Screen,
    adapter: Path,
    source: Path,
    target: Path,
    text_column: list[str] | None,
    model: str | None,
    options: dict[str, Any],
) -> None:
    from adapterhub.training.predicting import predict_file

    try:
        with screen.progress() as progress:
            done = predict_file(adapter, source, target, text_column, model, progress=progress, **options)
    except KeyboardInterrupt as error:
        raise Resumable("the answers so far are kept", screen.command()) from error
    values = {"rows": done.rows, "resumed": done.resumed, "precision": done.precision, "answers": target}
    shown = {"rows": f"{done.rows:,}" + (f" ({done.resumed:,} from before)" if done.resumed else "")}
    screen.show(values, tables.pairs(shown | {"precision": done.precision, "answers": target}))


@app.command()
@model_command
def compare(
    screen: Screen,
    data: Data,
    model: Model = "minilm",
    methods: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            help="A configuration of an adapter, [bold]full[/bold] or [bold]head[/bold]; once for each method.",
            metavar="METHOD",
            show_default="seq_bn, lora, full, head",
        ),
    ] = None,
    rates: Annotated[
        list[str] | None,
        typer.Option(
            "--lr",
            help="The learning rates of a method: [bold]full=2e-5,5e-5[/bold]; once for each method.",
            metavar="METHOD=RATES",
            show_default="three for each method",
        ),
    ] = None,
    seed: Seed = 0,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds.", metavar="N")] = 3,
    sweep_seeds: Annotated[
        int, typer.Option(min=1, help="Number of seeds that every rate is tried with.", metavar="N")
    ] = 1,
    epochs: Annotated[
        int, typer.Option(min=1, help="Epochs; the one that is best on validation counts.", metavar="N")
    ] = 5,
    batch_size: BatchSize = 32,
    max_length: MaxLength = 128,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder for runs and report.", metavar="FOLDER")
    ] = Path("runs/compare"),
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    label_names: LabelNames = None,
) -> None:
    """Compare adapters with full fine-tuning and the head alone, each with its own learning-rate sweep.

    Interrupted, the same command goes on where it stopped.

    [bold]adapterhub compare reviews.csv[/bold]

    [bold]adapterhub compare reviews.csv --method seq_bn --method full --lr full=1e-5,2e-5,5e-5[/bold]
    """
    from adapterhub.training.compare import METHODS
    from adapterhub.training.compare import compare as do
    from adapterhub.training.report import write_report
    from adapterhub.training.settings import Settings

    try:
        with screen.progress() as progress:
            comparison = do(
                model,
                data,
                methods or METHODS,
                seeds=range(seed, seed + seeds),
                sweep_seeds=sweep_seeds,
                learning_rates=_rates(rates or []),
                settings=Settings(epochs=epochs, batch_size=batch_size, max_length=max_length),
                data_options=data_options(text_column, label_column, label_names),
                output_dir=output,
                progress=progress,
            )
    except KeyboardInterrupt as error:
        raise Resumable(f"finished runs are kept in {output}", screen.command()) from error
    report = write_report(comparison, output / "report.html")
    places = {"report": report, "results": output / "comparison.json"}
    screen.show(comparison.to_dict() | {"report": report}, tables.comparison(comparison), "", tables.pairs(places))


@app.command()
@model_command
def sites(
    screen: Screen,
    model: Annotated[
        str | None,
        typer.Argument(
            help="A name on the Hub, a folder, or a config.json; weights are not read.",
            metavar="MODEL",
            show_default=False,
        ),
    ] = None,
    sweep: Annotated[
        bool,
        typer.Option("--sweep", help="Check adapters in a small random model of every architecture of transformers."),
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", help="An architecture (a model type) to check, anew; once for each.", metavar="NAME"),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Architectures at a time.", metavar="N")] = 1,
    limit: Annotated[int, typer.Option(min=1, help="Seconds that an architecture may take.", metavar="SECONDS")] = 120,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder for the outcomes of a sweep.", metavar="FOLDER")
    ] = Path("runs/sites"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Check again what was checked before.")] = False,
) -> None:
    """Show where adapters can act in a model; or check every architecture.

    A sweep that is interrupted goes on where it stopped.

    [bold]adapterhub sites minilm[/bold]

    [bold]adapterhub sites --sweep --jobs 4[/bold]

    [bold]adapterhub sites --sweep --only bert --only llama[/bold]
    """
    if sweep == (model is not None):
        raise typer.BadParameter("give either the name of a model, or --sweep", param_hint="MODEL")
    if model is not None:
        from adapterhub.training.evaluation import sites_of

        found = sites_of(model)
        screen.show(found.to_dict(), tables.sites(found))
        return
    from adapterhub.sweep import sweep as do

    try:
        with screen.progress() as progress:
            report = do(only or (), output, jobs=jobs, limit=limit, overwrite=overwrite, progress=progress)
    except KeyboardInterrupt as error:
        again = screen.command(without=("--overwrite",))
        raise Resumable(f"what was checked is kept in {output}", again) from error
    screen.show(report.to_dict(), *tables.sweep(report))


@app.command()
@model_command
def summary(
    screen: Screen,
    name: Annotated[
        str, typer.Argument(help="The folder of a saved adapter; or a model, as for sites.", metavar="ADAPTER_OR_MODEL")
    ],
) -> None:
    """Show what a saved adapter is, or a model and the adapters saved in it.

    [bold]adapterhub summary runs/quickstart/adapter[/bold]
    """
    from adapterhub.checkpoints import ADAPTER_MANIFEST
    from adapterhub.training.evaluation import describe_adapter, describe_model

    if (Path(name) / ADAPTER_MANIFEST).exists():
        values = describe_adapter(Path(name))
        screen.show(values, tables.adapter(values))
    else:
        values = describe_model(name)
        screen.show(values, *tables.model(values))


@app.command()
@model_command
def convert(
    screen: Screen,
    source: Annotated[
        str,
        typer.Argument(
            help="The folder of a saved adapter or setup of any format; or a repository on the Hugging Face Hub.",
            metavar="IN",
        ),
    ],
    target: Annotated[Path, typer.Argument(help="The folder to write, which must not be there yet.", metavar="OUT")],
    form: Annotated[
        str,
        typer.Option("--format", "-f", help="adapterhub, adapters or peft.", metavar="FORMAT", show_default=False),
    ],
    model: OtherModel = None,
    head: Annotated[bool, typer.Option(help="Convert the head that goes with it, too.")] = True,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Read the tensors in pickles, and nothing else in them.")
    ] = False,
) -> None:
    """Write a saved adapter in the format of another library.

    [bold]adapterhub convert runs/quickstart/adapter for-peft --format peft --no-head[/bold]

    [bold]adapterhub convert AdapterHub/bert-base-uncased-pf-sst2 sst2 --format adapterhub --allow-pickle[/bold]
    """
    from adapterhub.converting import convert as do

    path = Path(source).expanduser()
    values = do(path if path.exists() else source, target, form, model, with_head=head, allow_pickle=allow_pickle)
    screen.show(values, tables.pairs(values | {"adapters": ", ".join(values["adapters"])}))


def _lines(texts: Sequence[str], file: Path | None) -> list[str]:
    """The texts of the command line, of standard input and of a file; empty lines are no texts."""
    found: list[str] = []
    for text in texts:
        found += sys.stdin.read().split("\n") if text == "-" else [text]
    if file is not None:
        try:
            found += file.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8"
            raise typer.BadParameter(f"{file} could not be read: {reason}", param_hint="--file") from error
    return [line for line in found if line.strip()]


def _rates(given: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """``full=2e-5,5e-5`` as a mapping; a configuration may hold ``=`` itself."""
    try:
        pairs = [text.rpartition("=") for text in given]
        return {name: tuple(map(float, values.split(","))) for name, _, values in pairs}
    except ValueError as error:
        raise typer.BadParameter(f"write METHOD=RATE,RATE: {error}", param_hint="--lr") from error
