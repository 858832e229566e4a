"""What results look like on a terminal."""

import re
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from adapterhub.hub.client.catalogue import Listing
    from adapterhub.sites import Layer, Sites
    from adapterhub.sweep import Report
    from adapterhub.training.compare import Comparison
    from adapterhub.training.grid import Swept
    from adapterhub.training.shrinking import Version


def pairs(values: Mapping[str, Any]) -> Text:
    """Names and values, one a line; what is None is left out. Long values are left whole, to be copied."""
    shown = {name: str(value) for name, value in values.items() if value is not None}
    width = max(map(len, shown), default=0) + 2
    lines = [Text.assemble((name.ljust(width), "dim"), value) for name, value in shown.items()]
    return Text("\n").join(lines)


def predictions(answers: Iterable[Mapping[str, Any]]) -> Table:
    """Label, score and text, one a line; of another kind of answer all that it holds, and the text."""
    table = _bare()
    table.add_column(style="bold", overflow="fold")
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for answer in answers:
        rest = {name: value for name, value in answer.items() if name not in ("text", "score")}
        shown = str(next(iter(rest.values()))) if len(rest) == 1 else ", ".join(f"{k} {v}" for k, v in rest.items())
        table.add_row(Text(shown), f"{answer['score']:.2f}" if "score" in answer else "", Text(answer["text"]))
    return table


def comparison(compared: "Comparison") -> RenderableType:
    """The outcome in a sentence, and a line for each method."""
    from adapterhub.training.report import headline, row, short_titles

    titles = short_titles(compared)
    rows = [row(method) | {"method": titles[method.method]} for method in compared.methods]
    table = _bare(show_header=True)
    table.add_column("", overflow="fold")
    headings = {"accuracy": "test acc. %", "trained": "trained", "share": "of model", "size": "file", "time": "time"}
    headings |= {"memory": "memory", "rate": "rate"}
    for heading in headings.values():
        table.add_column(heading, justify="right", no_wrap=True)
    for cells in rows:
        table.add_row(Text(cells["method"]), *(cells[name] for name in headings))
    notes = [f"{cells['method']}: {cells['note']}" for cells in rows if cells["note"]]
    return Group(Text(headline(compared), style="bold"), "", table, *(Text(note, style="yellow") for note in notes))


def grid(swept: "Swept") -> RenderableType:
    """What was chosen, a line for each combination that was tried, and runs that failed."""
    table = _bare(show_header=True)
    table.add_column("method", overflow="fold")
    for heading in ("size", "rate", "validation %", "runs", "trained", ""):
        table.add_column(heading, justify="right", no_wrap=True)
    with_sizes = any(one.point.size is not None for one in swept.tried)
    for one in swept.tried:
        results = [outcome.result for outcome in one.outcomes if outcome.result is not None]
        mean = f"{100 * one.mean:.1f} ± {100 * one.spread:.1f}" if results else "-"
        size = one.point.size if with_sizes else None
        numbers = ("" if size is None else str(size), f"{one.point.learning_rate:g}", mean, str(len(results)))
        trained = f"{results[0].trained:,}" if results else ""
        table.add_row(Text(one.point.method), *numbers, trained, "best" if one is swept.best else "")
    notes = [f"{run.name}: {run.error}" for one in swept.tried for run in one.outcomes if run.error is not None]
    notes += [
        f"{run.name}: the loss ended where guessing would"
        for one in swept.tried
        for run in one.outcomes
        if run.result is not None and run.result.collapsed
    ]
    result = swept.chosen.result
    assert result is not None
    validation, test = (f"{100 * value:.1f} %" for value in (result.validation_accuracy, result.test_accuracy))
    headline = f"{swept.chosen.name}: {validation} on validation, {test} on test"
    return Group(Text(headline, style="bold"), "", table, *(Text(note, style="yellow") for note in notes))


def versions(tried: "Iterable[Version]") -> Table:
    """Smaller versions of an adapter that were measured, the largest first."""
    table = _bare(show_header=True)
    for heading in ("values", "hidden units", "bytes", "validation"):
        table.add_column(heading, justify="left" if heading == "values" else "right")
    for one in sorted(tried, key=lambda one: -one.bytes):
        accuracy = "" if one.accuracy is None else f"{100 * one.accuracy:.1f} %"
        table.add_row(str(one.dtype), f"{100 * one.keep:.3g} %", f"{one.bytes:,}", accuracy)
    return table


def listings(found: "Iterable[Listing]") -> Text:
    """Adapters of a hub: what each is called, and in a line below what it is."""
    lines = []
    for one in found:
        score = "" if one.score is None else f"score {one.score:.3g}" + (" (verified)" if one.verified else "")
        purpose = one.coordinate.partition("@")[0] if one.coordinate else ""
        about = [purpose, one.method, f"for {one.base}" if one.base else "", score, f"{one.downloads:,} downloads"]
        lines += [Text(one.id, style="bold"), Text("  " + " · ".join(part for part in about if part), style="dim")]
    return Text("\n").join(lines)


def sites(found: "Sites") -> RenderableType:
    """Layers and their sublayers; layers in a row that differ in their number alone are shown once."""
    table = _bare(show_header=True)
    for heading in ("layers", "site", "width", "norm", "output at", "projections"):
        table.add_column(heading, justify="right" if heading == "width" else "left", overflow="fold")
    for _, group in groupby(found.layers, key=_shape):
        layers = list(group)
        numbers = [layer.name.rpartition(".")[2] for layer in layers]
        tower = layers[0].name.rpartition(".")[0]
        span = numbers[0] if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}"
        for place, sublayer in enumerate(layers[0].sublayers):
            where = sublayer.output_at.removeprefix(f"{layers[0].path}.")
            table.add_row(
                f"{tower}.{span}" if not place else "",
                sublayer.kind.replace("_", "-"),
                str(sublayer.width),
                "after" if sublayer.norm else "before",
                where,
                " ".join(projection.role for projection in sublayer.projections),
            )
    count = sum(1 for _ in found.sublayers)
    title = f"{found.model_class}: {len(found.layers)} layers, {count} sublayers an adapter can follow"
    return Group(Text(title, style="bold"), "", table)


def sweep(report: "Report") -> tuple[RenderableType, ...]:
    """How many architectures pass each method, and the reason of every no."""
    counts = _bare(show_header=True)
    counts.add_column("")
    for heading in report.counts()["all"]:
        counts.add_column(heading, justify="right")
    for kind, row in report.counts().items():
        counts.add_row("those that read text" if kind == "text" else kind, *map(str, row.values()))
    reasons = _bare(show_header=True)
    for heading in ("architecture", "not with", "reason"):
        reasons.add_column(heading, overflow="fold")
    for outcome in report.architectures:
        found = {reason: [m for m, r in outcome.methods.items() if r == reason] for reason in outcome.methods.values()}
        for reason, methods in found.items():
            if reason is not None:
                reasons.add_row(outcome.name, ", ".join(methods), Text(reason))
    return (counts, "", reasons) if reasons.row_count else (counts,)


def adapter(values: Mapping[str, Any]) -> Text:
    """What a saved adapter is."""
    from adapterhub.training.report import size

    base, head = values["base_model"], values["head"] or {}
    options = ", ".join(f"{name}={value!r}" for name, value in values["options"].items())
    shown = {
        "adapter": values["adapter"],
        "method": f"{values['method']} ({options or 'all options as by default'})",
        "parameters": f"{values['parameters']:,}" if values["parameters"] is not None else None,
        "files": size(values["bytes"]),
        "base model": f"{base['name']} ({base['model_type']}, {base['layers']} layers, width {base['hidden_size']})",
        "head": head.get("type"),
        "labels": ", ".join(head.get("labels", ())) or None,
    }
    return pairs(shown)


def model(values: Mapping[str, Any]) -> tuple[RenderableType, ...]:
    """What a model is, and a table of the adapters in it."""
    shown = {
        "model": f"{values['model']} ({values['type']})",
        "parameters": f"{values['parameters']:,}",
        "sites": f"{values['layers']} layers, {values['sublayers']} sublayers, width {values['width']}",
        "heads": ", ".join(values["heads"]) or None,
        "adapters": None if values["adapters"] else "none",
    }
    table = _bare(show_header=True)
    for heading in ("adapter", "method", "parameters", "% of model"):
        table.add_column(heading, justify="left" if heading in ("adapter", "method") else "right")
    for row in values["adapters"]:
        table.add_row(Text(row["name"]), row["method"], f"{row['parameters']:,}", f"{row['percent']:.3f}")
    return (pairs(shown), "", table) if values["adapters"] else (pairs(shown),)


def _shape(layer: "Layer") -> str:
    """Everything about a layer but its number."""
    number = re.escape(layer.path)
    tower = layer.name.rpartition(".")[0]
    described = [
        (sub.kind, sub.width, bool(sub.norm), re.sub(number, "", sub.output_at), [p.role for p in sub.projections])
        for sub in layer.sublayers
    ]
    return f"{tower} {described}"


def _bare(show_header: bool = False) -> Table:
    return Table(box=None, show_header=show_header, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
