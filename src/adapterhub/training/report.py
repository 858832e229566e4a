"""A comparison as a page: one HTML file with its plots inside, for a browser without a network."""

import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapterhub.training.compare import Comparison, MethodResult
from adapterhub.training.settings import FULL, HEAD

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Colours that can be told apart by people with any colour vision, on light and on dark ground (Okabe and Ito).
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_INK = "#010203"  # stands for the colour of the text, which the page sets


def write_report(comparison: Comparison, path: Path, examples: tuple[Mapping[str, Any], ...] = ()) -> Path:
    """Write the page; ``examples`` are predictions to show, each with ``text``, ``label`` and ``score``."""
    from jinja2 import Environment, PackageLoader

    environment = Environment(
        loader=PackageLoader("adapterhub.training"),
        autoescape=True,  # texts and names come from outside
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = {method.method: title(method.method) for method in comparison.methods}
    page = environment.get_template("report.html.j2").render(
        comparison=comparison,
        names=names,
        rows=[row(method) for method in comparison.methods],
        headline=headline(comparison),
        plots=_plots(comparison),
        examples=examples,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(page, encoding="utf-8")
    temporary.replace(path)
    return path


def title(method: str) -> str:
    """What a method is called before people."""
    return {FULL: "full fine-tuning", HEAD: "head only"}.get(method, f"adapter {method}")


def short_titles(comparison: Comparison) -> dict[str, str]:
    """Titles of all methods, without their options where that leaves them apart."""
    full = {method.method: title(method.method) for method in comparison.methods}
    short = {name: text.split("[")[0] for name, text in full.items()}
    return short if len(set(short.values())) == len(short) else full


def headline(comparison: Comparison) -> str:
    """The outcome in a sentence: the best adapter against full fine-tuning."""
    adapters = [method for method in comparison.methods if method.method not in (FULL, HEAD)]
    full = next((method for method in comparison.methods if method.method == FULL), None)
    if not adapters:
        best = max(comparison.methods, key=lambda method: method.mean)
        return f"{title(best.method).capitalize()} reached {percent(best.mean)} % on test."
    best = max(adapters, key=lambda method: method.mean)
    run = best.runs[0]
    share = 100 * run.trained / run.base
    text = f"An adapter reached {percent(best.mean)} % on test, training {share:.2f} % of the parameters"
    return f"{text}; full fine-tuning reached {percent(full.mean)} %." if full else f"{text}."


def row(method: MethodResult) -> dict[str, str]:
    """One line of the table, as text."""
    run = method.runs[0]
    several = len(method.runs) > 1
    seconds = sum(r.seconds for r in method.runs) / len(method.runs)
    return {
        "method": title(method.method),
        "accuracy": percent(method.mean) + (f" ± {100 * method.spread:.1f}" if several else ""),
        "trained": f"{run.trained:,}",
        "share": f"{100 * run.trained / run.base:.2f} %",
        "size": size(run.file_size),
        "time": f"{seconds:.0f} s",
        "memory": size(max(r.peak_memory for r in method.runs)),
        "rate": f"{method.learning_rate:g}",
        "note": f"collapsed (seeds {', '.join(map(str, method.collapsed))})" if method.collapsed else "",
    }


def percent(fraction: float) -> str:
    """A fraction in per cent, to one decimal."""
    return f"{100 * fraction:.1f}"


def size(count: float) -> str:
    """Bytes for people: 1.2 MB."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def _plots(comparison: Comparison) -> list[tuple[str, str]]:
    """Captions and SVG texts."""
    return [
        ("Test accuracy and what has to be trained for it; bars span the seeds.", _figure(comparison, _accuracy)),
        (
            "The sweep: validation accuracy by learning rate; the rate that was chosen is ringed.",
            _figure(comparison, _sweep),
        ),
        ("Training loss of the first seed.", _figure(comparison, _losses)),
        ("What has to be kept for each task.", _figure(comparison, _sizes)),
    ]


def _figure(comparison: Comparison, draw: "Callable[[Axes, Comparison], None]") -> str:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 10,
        "axes.spines.top": False,
    }
    style |= {"axes.spines.right": False, "svg.hashsalt": "adapterhub"}
    style |= dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK)
    with mpl.rc_context(style):
        figure = Figure(figsize=(5.2, 3.2), layout="constrained")
        axes = figure.subplots()
        draw(axes, comparison)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    return re.sub(
        r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1), count=1
    )


def _accuracy(axes: "Axes", comparison: Comparison) -> None:
    names = short_titles(comparison)
    trained = {method.method: method.runs[0].trained + method.runs[0].head for method in comparison.methods}
    largest = max(trained.values()) if len(trained) > 1 else None
    for method, colour in zip(comparison.methods, _COLOURS, strict=False):
        accuracies = [100 * run.test_accuracy for run in method.runs]
        x, y = trained[method.method], 100 * method.mean
        below, above = max(0.0, y - min(accuracies)), max(0.0, max(accuracies) - y)  # equal ones differ by rounding
        axes.errorbar([x], [y], [[below], [above]], fmt="o", color=colour, capsize=4)
        right = x == largest  # where there is no room to the right of the point
        place: dict[str, Any] = {"xytext": (-9 if right else 9, 0), "ha": "right" if right else "left"}
        axes.annotate(names[method.method], (x, y), textcoords="offset points", va="center", **place)
    axes.set_xscale("log")
    axes.margins(x=0.15, y=0.25)
    axes.set_xlabel("trained parameters, head included")
    axes.set_ylabel("test accuracy (%)")


def _sweep(axes: "Axes", comparison: Comparison) -> None:
    names = short_titles(comparison)
    for method, colour in zip(comparison.methods, _COLOURS, strict=False):
        points = [(rate, 100 * accuracy) for rate, accuracy in method.by_rate().items()]
        axes.plot(*zip(*points, strict=True), "o-", color=colour, label=names[method.method])
        chosen = dict(points)[method.learning_rate]
        axes.plot([method.learning_rate], [chosen], "o", markersize=13, fillstyle="none", color=colour)
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("validation accuracy (%)")
    axes.legend(frameon=False)


def _losses(axes: "Axes", comparison: Comparison) -> None:
    names = short_titles(comparison)
    for method, colour in zip(comparison.methods, _COLOURS, strict=False):
        if method.runs[0].losses:
            epochs, losses = zip(*method.runs[0].losses, strict=True)
            axes.plot(epochs, losses, color=colour, label=names[method.method])
    axes.set_xlabel("epoch")
    axes.set_ylabel("training loss")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)


def _sizes(axes: "Axes", comparison: Comparison) -> None:
    names = list(short_titles(comparison).values())
    sizes = [method.runs[0].file_size / 1e6 for method in comparison.methods]
    bars = axes.barh(names, sizes, color=_COLOURS[: len(names)])
    axes.bar_label(bars, [size(1e6 * value) for value in sizes], padding=4)
    axes.margins(x=0.2)
    axes.invert_yaxis()
    axes.set_xlabel("megabytes")
