"""What the page says of each benchmark: a paragraph, tables, and charts, read from its result."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from charts import BASE, OURS, PEER, Bar, Bars, Curves
from tables import Table, percent, ratio, time, timed

Result = Mapping[str, Any]


@dataclass(frozen=True)
class Section:
    """A benchmark on the page.

    Attributes:
        title: of the section.
        text: what is compared with what.
        tables: medians and ratios.
        charts: those under the text, by what each shows.
    """

    title: str
    text: str
    tables: Sequence[Table]
    charts: Mapping[str, Bars | Curves] = field(default_factory=dict)


def step_time(result: Result) -> Section:
    titles = {
        "adapters": "`adapters`, `AdapterTrainer`",
        "ours": "adapterhub, `AdapterTrainer`",
        "plain": "adapterhub, `Trainer` of transformers",
        "peft": "PEFT's LoRA, `Trainer` of transformers",
    }
    return Section(
        "A training step",
        "A step of each library's own trainer: 32 rows of 100 tokens through MiniLM with a classifier, float32, "
        "AdamW, dropout on. Both libraries train the bottleneck adapter `seq_bn`, PEFT a LoRA of rank 8. All at "
        "their defaults; the whole trainings below have the peer at its best too.",
        [timed(result["results"], titles)],
        {"time of a step against that of adapters": _ratios(result["results"], titles)},
    )


def latency(result: Result) -> Section:
    titles = {
        "bare_ours": "the bare model, beside adapterhub",
        "ours": "adapterhub, active adapter",
        "idle": "adapterhub, adapter not active",
        "bare_peers": "the bare model, beside the peers",
        "adapters": "`adapters`, active adapter",
        "peft": "PEFT's LoRA, active",
    }
    compiled = {name: f"{title}, compiled" for name, title in titles.items()}
    both = [(result["results"], titles), (result.get("compiled", {}), compiled)]
    bars = [bar for results, own in both for bar in _ratios(results, own).bars]
    return Section(
        "One row",
        "One row of 32 tokens through MiniLM in float32, with an adapter, against the bare model of the same "
        "environment (the peers need an older transformers). Then the same with all of them under `torch.compile`.",
        [timed(results, own) for results, own in both if results],
        {"time against that of the bare model": Bars("time / time of the bare model", bars, 1.0)},
    )


def train_time(result: Result) -> Section:
    names = {
        "ours": "adapterhub",
        "plain": "`adapters`, as it comes",
        "tuned": "`adapters`, bfloat16 and batches of like length",
    }
    steps = result["step_times"]
    rows = []
    for name, title in names.items():
        own = result["results"][name]
        reached = [seconds for seconds in own["seconds_to_target"] if seconds is not None]
        step = steps["tuned" if name == "tuned" else "plain"][name]["milliseconds"] if steps else None
        rows.append(
            (
                title,
                "" if step is None else time(step),
                time(1000 * median(own["seconds"])),
                time(1000 * median(reached)) if reached else "",
                f"{len(reached)} of {len(own['seconds'])}",
                f"{percent(own['test_mean'])} ± {100 * own['test_deviation']:.1f}",
            )
        )
    header = ("", "step", f"{result['epochs']} epochs", "to the target", "runs that came to it", "test accuracy")
    against = []
    for name in ("plain", "tuned"):
        own = result["results"][f"ours_against_{name}"]
        step = ratio(steps[name]["ours"]) if steps else ""
        cells = (step, ratio(own["same_epochs"]), ratio(own["to_target"]), f"{own['test_points']:+.2f}")
        against.append((f"of {names[name]}", *cells))
    ratios = ("time of adapterhub", "a step", "all epochs", "to the target", "points of test accuracy")
    curves = {name.replace("`", ""): [run["curve"] for run in result["runs"][key]] for key, name in names.items()}
    target = result["results"]["target"]
    return Section(
        "Training to the same accuracy",
        "`adapterhub train` against `AdapterTrainer` of `adapters` on Rotten Tomatoes: MiniLM, `seq_bn` of width "
        "64, 32 rows a batch, evaluation and checkpoint after each epoch, as many epochs for all. The peer has its "
        f"best of three learning rates ({result['rates']['plain']:g}), adapterhub its default "
        f"({result['rates']['ours']:g}). The target is the mean best validation accuracy of the peer as it comes, "
        f"less {100 * result['margin']:g} points: {percent(target)}. A run that never comes to it counts with all of "
        "its time. Steps were timed in turn; medians of whole runs are over the seeds.",
        [Table(header, tuple(rows)), Table(ratios, tuple(against))],
        {"validation accuracy over time, each seed a line": Curves(curves, target)},
    )


def fast(result: Result) -> Section:
    names = {
        "default": "`adapterhub train`",
        "fast": "`--fast`, hidden states to be computed",
        "fast, states at hand": "`--fast`, hidden states at hand",
    }
    found = result["results"]
    rows = [
        (title, time(1000 * found[name]["seconds"]), ratio(found[name]), percent(found[name]["test"]))
        for name, title in names.items()
    ]
    return Section(
        "Fast training",
        f"`adapterhub train --fast` against our own defaults, whole trainings on {_data(result['data'])}: with the "
        "hidden states below the lowest adapter still to be computed, and with those of an earlier run. Median "
        "seconds and mean accuracy over the seeds.",
        [Table(("", "median", "ratio", "test accuracy"), tuple(rows))],
        {"time against that of the defaults": _ratios(found, names, "time / time of the defaults")},
    )


def sweep_time(result: Result) -> Section:
    names = {
        "alone": "one run at a time",
        "together": "16 together",
        "cached": "16 together, trunk cache",
    }
    rows, bars = [], []
    for precision, shown in {"fp32": "float32", "bf16": "bfloat16"}.items():
        if precision not in result:
            continue
        found, memory = result[precision]["a run"], result[precision]["peak_megabytes"]
        titles = {name: f"{title}, {shown}" for name, title in names.items()}
        for name, title in titles.items():
            megabytes = "" if memory[name] is None else f"{memory[name]:.0f} MB"
            rows.append((title, time(found[name]["milliseconds"]), ratio(found[name]), megabytes))
        bars += _ratios(found, titles).bars
    text = (
        "16 runs of `seq_bn` in the top half of MiniLM (4 learning rates, 4 seeds) on Rotten Tomatoes: a step of "
        "all of them together against 16 steps of one, as the time of a step for each run. Peak memory is that of "
        "the process: one that trains a single run, or all 16 over one base."
    )
    return Section(
        "Many trainings at once",
        f"{text} {_whole(result['whole'])}" if "whole" in result else text,
        [Table(("", "median of a step, a run", "ratio", "peak memory"), tuple(rows))],
        {"time of a step against that of one run": Bars("time / time of one run alone", bars, 1.0)},
    )


def _whole(whole: Result) -> str:
    seconds = whole["seconds"]
    return (
        f"{whole['runs']} of them, trained to their end on {whole['rows']:,} rows for {whole['epochs']} epochs in "
        f"float32, took {time(1000 * seconds['together'])} together and {time(1000 * seconds['one after another'])} "
        f"one after another; their loss curves differ by at most {whole['largest_difference_of_loss_curves']:.1g}."
    )


def rows(result: Result) -> Section:
    titles = {}
    for dtype in ("float32", "bfloat16"):
        titles |= {
            f"{dtype}_64_one": f"64 rows, one adapter, {dtype}",
            f"{dtype}_64_each": f"64 rows, 64 adapters, {dtype}",
            f"{dtype}_64_slots": f"64 rows, 64 slots of a bank, {dtype}",
            f"{dtype}_64_slot": f"64 rows, one slot of a bank, {dtype}",
            f"{dtype}_64_zipf": f"64 rows, 64 adapters in unequal shares, {dtype}",
            f"{dtype}_lora_64_one": f"64 rows, one LoRA, {dtype}",
            f"{dtype}_lora_64_each": f"64 rows, 64 LoRAs, {dtype}",
            f"{dtype}_lora_64_slots": f"64 rows, 64 slots of LoRA, {dtype}",
        }
    titles |= {
        "ours_32_one": "32 rows, one adapter",
        "ours_32_each": "32 rows, 16 adapters",
        "adapters_32_one": "32 rows, one adapter, `adapters`",
        "adapters_32_each": "32 rows, 16 adapters, `adapters` (`BatchSplit`)",
        "ours_lora_32_one": "32 rows, one LoRA",
        "ours_lora_32_each": "32 rows, 16 LoRAs",
        "peft_32_one": "32 rows, one LoRA, PEFT",
        "peft_32_each": "32 rows, 16 LoRAs, PEFT (`adapter_names`)",
        "tasks_passes": "8 tasks on one input, 8 passes",
        "tasks_parallel": "8 tasks on one input, one pass",
    }
    return Section(
        "Many adapters in one batch",
        "Whole forward passes of MiniLM over rows of 32 tokens, in which rows have adapters of their own, against "
        "the same rows with one adapter for all. `seq_bn`, or LoRA where it is said; float32 where nothing else is "
        "said; unequal shares are 1, 1/2, 1/3, ... The peers have their own way for it. Then 8 tasks on the same 16 "
        "rows, with adapters in the top half of the model, against a pass for each.",
        [timed(result["results"], titles)],
        {"time against that of one adapter, or of 8 passes": _ratios(result["results"], titles)},
    )


def predict(result: Result) -> Section:
    titles = {
        "ours": "adapterhub, defaults",
        "adapters": "pipeline with `adapters`, as it comes",
        "adapters_best": "pipeline with `adapters`, bfloat16, sorted, 32 a batch",
    }
    peer = result["against_peer"]
    found = peer["results"]
    rates = [
        Bar(title.replace("`", ""), one["rows_a_second"], None, _colour(name), f"{one['rows_a_second']:,.0f}")
        for name, title in titles.items()
        for one in (found[name],)
    ]
    tables = [timed(found, titles, ("accuracy", "labels_as_ours"))]
    if "table" in result:
        own = result["table"]["results"]
        tables.append(timed(own, {name: name for name in own}, ("accuracy",)))
    return Section(
        "Predicting",
        f"The {result['rows']:,} test rows of Rotten Tomatoes through MiniLM with an adapter and its head, from "
        f"texts to labels: `adapterhub.Predictor` at its defaults (here {peer['precision']}, {peer['budget']:,} "
        "tokens a batch) against the text-classification pipeline of transformers with the same weights in "
        "`adapters`, as it comes and at its best. A ratio over 1 says how many times as long the peer takes. The "
        "second table is ours alone: precisions against budgets of tokens.",
        tables,
        {"rows a second": Bars("rows a second", rates)},
    )


def loading(result: Result) -> Section:
    found = result["results"]
    register, load = found["register"], found["load"]
    many = (
        (f"{register['adapters']:,} registered", time(1000 * register["seconds"])),
        (f"{load['adapters']:,} loaded", time(1000 * load["seconds"])),
        ("one activated, median", f"{load['activate_microseconds']:g} µs"),
        ("one activated, 95th of 100", f"{load['activate_microseconds_95th']:g} µs"),
        ("weights of those loaded", f"{load['weights_bytes'] / 1e6:.1f} MB"),
        ("resident memory that they take, of their weights", f"{load['resident_to_weights']:.3f}"),
        ("memory of the process alone, of their weights", f"{load['own_to_weights']:.3f}"),
    )
    imports = {name: {**one, "milliseconds": 1000 * one["seconds"]} for name, one in found["import"].items()}
    return Section(
        "Adapters by the thousand",
        "A pool of saved adapters of MiniLM (`seq_bn` of width 24, with a head), each with values of its own: "
        "registering folders, loading, activating one in random order, and what those that are loaded take in "
        "memory. The files are in the system's cache. Below, a Python process that does nothing but import.",
        [Table(("", ""), many), timed(imports, {name: name for name in imports})],
    )


def shrink(result: Result) -> Section:
    rows = tuple(
        (
            name,
            f"{one['bytes']:,}",
            f"{one['share of the bytes']:.3f}",
            f"{sum(one['test accuracy']) / len(one['test accuracy']):.2f} %",
            f"{one['points lost']:.2f}",
            ", ".join(f"{points:.2f}" for points in one["points lost, by seed"]),
        )
        for name, one in result["versions"].items()
    )
    header = ("", "bytes", "of float32", "test accuracy", "points lost", "by seed")
    bars = [
        Bar(name, one["share of the bytes"], None, OURS, f"{one['share of the bytes']:.3f}")
        for name, one in result["versions"].items()
    ]
    return Section(
        "Smaller adapters",
        f"A trained adapter (`{result['what'].replace(' with its head', '` with its head', 1)}), in fewer bits and "
        "with fewer hidden units: the bytes of adapter and head, and what that costs in accuracy.",
        [Table(header, rows)],
        {"bytes against float32": Bars("bytes / bytes in float32", bars)},
    )


SECTIONS: dict[str, Callable[[Result], Section]] = {
    one.__name__: one for one in (train_time, fast, sweep_time, step_time, rows, predict, latency, loading, shrink)
}


def _ratios(results: Result, titles: Mapping[str, str], axis: str = "time / time of what it is held against") -> Bars:
    """The bars of what has a ratio to something else."""
    found = {name: results[name] for name in titles if "ratio" in results.get(name, {})}
    bars = [
        Bar(
            titles[name].replace("`", ""),
            one["ratio"],
            tuple(one["ratio_interval"]),
            _colour(name),
            f"{one['ratio']:.2f}",
        )
        for name, one in found.items()
    ]
    return Bars(axis, bars, 1.0)


def _colour(name: str) -> str:
    return PEER if name.startswith(("adapters", "peft")) else BASE if name.startswith("bare") else OURS


def _data(name: str) -> str:
    return name.replace("_", " ").title()
