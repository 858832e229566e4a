"""The page of the benchmarks and its charts, made from the results that are there.

    python benchmarks/page.py

writes ``docs/benchmarks.md`` and ``docs/images/benchmarks``. A benchmark without a result is left out.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

from asked import Answer, answers, bound, figure
from charts import OURS, PEER, Bar, Bars, svg
from sections import SECTIONS, Section
from workers import ROOT

RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
IMAGES = "images/benchmarks"
PACKAGES = {"adapterhub": "adapterhub", "adapters": "adapters", "peft": "PEFT"} | {
    name: name for name in ("torch", "transformers", "datasets", "python")
}

INTRODUCTION = """# Benchmarks

<!-- Made by benchmarks/page.py from benchmarks/results: change those. -->

Everything here is measured by scripts in `benchmarks/`, whose results are in `benchmarks/results/`; this page is made
from them. `make bench` makes the environment of the peers, runs all of them one after another, and writes this page
again.

What is compared runs in turn, a little of each at a time over many rounds, in processes of their own: `adapters` 1.3.0
and PEFT in their environment, adapterhub in its own. A ratio is the median over the rounds of the ratio within a round.
The figures in square brackets are its interval of 95 %, by bootstrap over the rounds; where whole trainings are
compared a seed takes the place of a round. Times are those of one machine: the ratios are what can be compared.

In the charts blue is adapterhub, orange a peer, and a thin line the interval.
"""


def files(results: Mapping[str, Any]) -> dict[str, str]:
    """The page and its charts by path below the documentation's folder."""
    sections = {name: read(results[name]) for name, read in SECTIONS.items() if name in results}
    found = list(answers(results))
    made = {f"{IMAGES}/asked.svg": svg(_overview(found))} if found else {}
    for name, section in sections.items():
        for number, chart in enumerate(section.charts.values()):
            made[_image(name, number)] = svg(chart)
    parts = [INTRODUCTION, *(_asked(found) if found else ())]
    for name, section in sections.items():
        parts += _section(name, section, results[name], [answer for answer in found if answer.asked.benchmark == name])
    return {PAGE.name: "\n".join(parts), **made}


def _image(name: str, number: int) -> str:
    return f"{IMAGES}/{name}{f'-{number + 1}' if number else ''}.svg"


def _asked(found: list[Answer]) -> Iterator[str]:
    """The bounds that were set, with what was found."""
    yield "## What was asked, and what was found\n"
    yield "The bounds were set before anything was built. A figure meets its bound by itself, whatever its interval.\n"
    yield "| | asked | found | met |\n|---|---:|---:|---|"
    for answer in found:
        what = f"[{answer.asked.what}](#{answer.asked.benchmark})"
        yield f"| {what} | {bound(answer.asked)} | {figure(answer)} | {_met(answer)} |"
    yield f"\n![The part of its bound that each figure takes]({IMAGES}/asked.svg)\n"


def _met(answer: Answer) -> str:
    return "yes" if answer.met else "no"


def _overview(found: list[Answer]) -> Bars:
    bars = []
    for answer in found:
        ends = None if answer.interval is None else sorted(map(answer.used, answer.interval))
        interval = None if ends is None else (ends[0], ends[1])
        used = max(0.0, answer.used(answer.value))
        label = answer.asked.what.replace("`", "")
        label = label if len(label) <= 62 else f"{label[:60].rsplit(' ', 1)[0]} ..."
        bars.append(Bar(label, used, interval, OURS if answer.met else PEER, f"{used:.2f}"))
    return Bars("part of the bound that is used (over 1: not met)", bars, 1.0)


def _section(name: str, section: Section, result: Any, found: list[Answer]) -> Iterator[str]:
    """One benchmark: text, what was asked, tables, charts, and how it was measured."""
    yield f"## {section.title} {{ #{name} }}\n\n{section.text}\n"
    for answer in found:
        met = "met" if answer.met else "not met"
        yield f"- Asked: {answer.asked.what}, {bound(answer.asked)}. Found: {figure(answer)}; {met}."
    if found:
        yield ""
    for table in section.tables:
        yield f"{table.markdown()}\n"
    for number, caption in enumerate(section.charts):
        yield f"![{section.title}: {caption}]({_image(name, number)})\n"
    yield f"{_conditions(result)} `.venv/bin/python benchmarks/run.py {name}` measures it.\n"


def _conditions(result: Any) -> str:
    """Machine, threads, versions and rounds of a result, in sentences."""
    machine = result["machine"]
    environments = list(_environments(result))
    threads = sorted({one["threads"] for one in [result, *environments] if "threads" in one})
    parts = [f"{machine['cores']} cores of {machine['processor']}"]
    parts += [f"{' or '.join(map(str, threads))} threads"] if threads else []
    for package, title in PACKAGES.items():
        versions = sorted({one[package].partition("+")[0] for one in environments if package in one})
        parts += [f"{title} {' and '.join(versions)}"] if versions else []
    if "rounds" in result:
        steps = f" of {result['steps']} steps" if "steps" in result else ""
        parts.append(f"{result['rounds']} rounds{steps}")
    return f"Measured on {', '.join(parts)}; load before {machine['load']}."


def _environments(value: Any) -> Iterator[dict[str, Any]]:
    """What says in a result which versions a process had."""
    if isinstance(value, dict):
        if isinstance(value.get("torch"), str):
            yield value
        for one in value.values():
            yield from _environments(one)
    elif isinstance(value, list):
        for one in value:
            yield from _environments(one)


def main() -> None:
    """Write the page and its charts, and take away charts that are no longer made."""
    results = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))}
    made = files(results)
    shutil.rmtree(PAGE.parent / IMAGES, ignore_errors=True)
    for path, text in made.items():
        target = PAGE.parent / path
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".partial")
        partial.write_text(text, encoding="utf-8")
        partial.replace(target)


if __name__ == "__main__":
    main()
