"""Figures and tables as the page of the benchmarks writes them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Table:
    """A table of a page; the first column is text, the others are figures."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """The table in Markdown."""
        lines = [self.header, ("---", *("---:" for _ in self.header[1:])), *self.rows]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def ratio(one: Mapping[str, Any]) -> str:
    """A ratio with its interval, where it has one: ``1.056 [1.053, 1.069]``."""
    if "ratio" not in one:
        return ""
    low, high = one["ratio_interval"]
    return f"{one['ratio']:.3f} [{low:.3f}, {high:.3f}]"


def time(milliseconds: float) -> str:
    """A time in the unit that fits, with three digits: ``8.43 ms``, ``1.24 s``, ``208 s``."""
    value, unit = (milliseconds, "ms") if milliseconds < 1000 else (milliseconds / 1000, "s")
    return f"{value:.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


def percent(share: float) -> str:
    """A share of one: ``83.4 %``."""
    return f"{100 * share:.1f} %"


def timed(results: Mapping[str, Any], titles: Mapping[str, str], more: Iterable[str] = ()) -> Table:
    """Median and ratio of what ``workers.summary`` has, in the order of the titles; ``more`` are shares in it."""
    found = {name: title for name, title in titles.items() if name in results}
    rows = []
    for name, title in found.items():
        one = results[name]
        against = titles.get(one.get("against", ""), "")
        shares = (percent(one[share]) for share in more)
        rows.append((title, time(one["milliseconds"]), ratio(one), against, *shares))
    return Table(("", "median", "ratio", "of", *(name.replace("_", " ") for name in more)), tuple(rows))
