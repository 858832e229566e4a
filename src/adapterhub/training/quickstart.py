"""The whole job once, from labelled text to predictions: train, compare, save, reload, use, report."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adapterhub.errors import TrainingError
from adapterhub.training.classifier import Text, load_classifier, predict
from adapterhub.training.compare import Comparison, compare, default_rates
from adapterhub.training.data import SHIPPED, TextData, load_data
from adapterhub.training.estimate import estimate_seconds
from adapterhub.training.progress import Progress
from adapterhub.training.report import write_report
from adapterhub.training.settings import FULL, HEAD, Settings
from adapterhub.training.single import ADAPTER, train_adapter

METHOD = "seq_bn[reduction_factor=6]"
# The shipped set is small: fewer rates, more epochs, one seed, and it is done within five minutes on two cores.
_SMALL_RATES = {METHOD: (1e-3, 3e-3), FULL: (1e-4, 2e-4), HEAD: (3e-3, 1e-2)}
_EXAMPLES = 6


@dataclass(frozen=True)
class Quickstart:
    """Where everything is, and what came out."""

    comparison: Comparison
    adapter: Path
    report: Path
    examples: tuple[dict[str, Any], ...]


def quickstart(
    model: str = "minilm",
    data: str = SHIPPED,
    output_dir: Path = Path("runs/quickstart"),
    *,
    epochs: int | None = None,
    seed: int = 0,
    seeds: int | None = None,
    data_options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Quickstart:
    """Train an adapter, compare it with full fine-tuning and the head alone, save it, reload it, and predict with it.

    ``epochs`` are by default 10 for the shipped data and 5 for other; ``seeds``, their number from ``seed`` on, are 1
    and 3. ``data_options`` go to ``load_data``. ``say`` is told of each step. Runs of the comparison that are in
    ``output_dir`` already are not done again.

    Raises:
        DataError, BackboneError: if data or model cannot be used.
        TrainingError: if a run fails, or the reloaded adapter does not predict what the trained one did.
    """
    loaded = load_data(data, **(data_options or {}))
    small = data == SHIPPED
    settings = Settings(model=model, method=METHOD, epochs=epochs or (10 if small else 5))
    chosen_seeds = range(seed, seed + (seeds or (1 if small else 3)))
    rates: dict[str, tuple[float, ...]]
    rates = dict(_SMALL_RATES) if small else {method: default_rates(method) for method in (METHOD, FULL, HEAD)}
    rows = ", ".join(f"{len(split):,} {name}" for name, split in loaded.splits.items())
    say(f"data     {loaded.name}: {rows} rows; labels {', '.join(loaded.labels)}")
    for note in loaded.notes:
        say(f"         {note}")
    runs = {method: len(tried) + len(chosen_seeds) - 1 for method, tried in rates.items()}
    seconds = estimate_seconds(settings, loaded, runs | {METHOD: runs[METHOD] + 1})
    say(f"plan     {_plan(rates, len(chosen_seeds), sum(runs.values()))}; {duration(seconds)}")
    comparison = compare(
        model,
        data,
        tuple(rates),
        seeds=chosen_seeds,
        learning_rates=rates,
        settings=settings,
        data_options=data_options,
        output_dir=output_dir,
        progress=_with_last(progress),
    )
    best = replace(settings, learning_rate=comparison.methods[0].learning_rate, seed=seed)
    last = _last_of(progress, sum(runs.values()), "the adapter to keep")
    trained = train_adapter(best, loaded, output_dir, overwrite=True, progress=last)
    folder = output_dir / ADAPTER
    fresh, tokenizer = load_classifier(folder)
    texts = _examples(loaded)
    before, after = (predict(each, tokenizer, texts) for each in (trained.model, fresh))
    if before != after:
        raise TrainingError(f"the adapter reloaded from {folder} predicts other scores than the one that was saved")
    say("reload   a fresh model with the saved adapter gives the same scores, to the bit")
    report = write_report(comparison, output_dir / "report.html", after)
    return Quickstart(comparison, folder, report, after)


def duration(seconds: float) -> str:
    """A rough length of time for people: about 40 s, about 3 min, about 1 h 20 min."""
    if seconds < 90:
        return f"about {max(10, round(seconds, -1)):.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"about {minutes} min"
    hours, minutes = divmod(5 * round(minutes / 5), 60)
    return f"about {hours} h {minutes} min" if minutes else f"about {hours} h"


def _plan(rates: dict[str, tuple[float, ...]], seeds: int, runs: int) -> str:
    tried = len(next(iter(rates.values())))
    more = f", then {seeds} seeds of the best" if seeds > 1 else ""
    return f"{len(rates)} methods, each with {tried} learning rates{more}: {runs} runs, and one of the adapter to keep"


def _with_last(progress: Progress | None) -> Progress | None:
    """The progress of the comparison, with one more run to come."""
    return None if progress is None else lambda done, total, what: progress(done, total + 1, what)


def _last_of(progress: Progress | None, before: int, title: str) -> Progress | None:
    """The progress of the run after ``before`` others."""
    if progress is None:
        return None
    return lambda done, total, what: progress(before + done / total, before + 1, f"{title}, {what}")


def _examples(data: TextData) -> list[Text]:
    """A few rows of the test split, as many of each class."""
    rows: list[Text] = []
    per_class = max(1, _EXAMPLES // len(data.labels))
    for label in range(len(data.labels)):
        chosen = [row for row in data.test if row["label"] == label][:per_class]
        rows += [(row["text"], row["text_pair"]) if data.pairs else row["text"] for row in chosen]
    return rows[:_EXAMPLES]
