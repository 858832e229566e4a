"""What a sweep found, as one file, as counts and as a table."""

import json
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from adapterhub.files import replace
from adapterhub.sweep.checks import METHODS
from adapterhub.sweep.outcome import Outcome

TITLES = {"bottleneck": "bottleneck", "lora": "LoRA", "prefix": "prefix", "reft": "ReFT"}


@dataclass(frozen=True)
class Report:
    """The outcomes of a sweep, and the versions of what it ran on."""

    versions: dict[str, str]
    architectures: tuple[Outcome, ...]

    @classmethod
    def of(cls, outcomes: Iterable[Outcome]) -> "Report":
        """A report on what was found here and now."""
        versions = {name: version(name) for name in ("adapterhub", "transformers", "torch")}
        return cls(versions | {"python": platform.python_version()}, tuple(outcomes))

    def write(self, path: Path) -> None:
        """Write it as JSON, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, (json.dumps(self.to_dict(), indent=1) + "\n").encode())

    @classmethod
    def read(cls, path: Path) -> "Report":
        """The report in a file that ``write`` made."""
        content = json.loads(path.read_text(encoding="utf-8"))
        return cls(content["versions"], tuple(Outcome(**one) for one in content["architectures"]))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)

    def counts(self) -> dict[str, dict[str, int]]:
        """How many architectures pass each method: of all, and of those that read text."""
        text = [outcome for outcome in self.architectures if outcome.text]
        return {name: _counts(some) for name, some in (("all", self.architectures), ("text", text))}


def _counts(outcomes: Sequence[Outcome]) -> dict[str, int]:
    passed = {method: sum(outcome.passes(method) for outcome in outcomes) for method in METHODS}
    both = sum(outcome.passes("bottleneck") and outcome.passes("lora") for outcome in outcomes)
    return {"architectures": len(outcomes), **passed, "bottleneck and LoRA": both}


def markdown(report: Report) -> str:
    """The versions, the counts and a row for every architecture, with the reason where a method fails."""
    versions = ", ".join(f"{name} {number}" for name, number in report.versions.items())
    lines = [f"Measured with {versions}.", "", "| | architectures | " + " | ".join(_headings()) + " |"]
    lines.append("|---|---:|" + "---:|" * len(_headings()))
    for kind, counts in report.counts().items():
        name = "all base models" if kind == "all" else "those that read text"
        lines.append(f"| {name} | {' | '.join(map(str, counts.values()))} |")
    lines += ["", "| architecture | what passes | what was found, and what stands in the way |", "|---|---|---|"]
    lines += [_row(outcome) for outcome in report.architectures]
    return "\n".join(lines)


def _headings() -> list[str]:
    return [*TITLES.values(), "bottleneck and LoRA"]


def _row(outcome: Outcome) -> str:
    passing = [title for method, title in TITLES.items() if outcome.passes(method)]
    passes = "all four" if len(passing) == len(TITLES) else ", ".join(passing) or "none"
    reasons: dict[str, list[str]] = {}
    for method, reason in outcome.methods.items():
        if reason is not None:
            reasons.setdefault(reason, []).append(TITLES[method])
    whole = [reason for reason, methods in reasons.items() if len(methods) == len(TITLES)]
    parts = [f"{', '.join(methods)}: {reason}" for reason, methods in reasons.items() if reason not in whole]
    said = "<br>".join(filter(None, (_found(outcome), _escaped("; ".join([*whole, *parts])))))
    return f"| {outcome.name} | {passes} | {said} |"


def _found(outcome: Outcome) -> str:
    if not outcome.layers:
        return ""
    towers = ", ".join(filter(None, outcome.towers))
    kinds = ", ".join(f"{count} {kind.replace('_', '-')}" for kind, count in outcome.sublayers.items())
    prefixed = f", {outcome.prefixed} read prefixes" if outcome.prefixed else ""
    return _escaped(f"{kinds}{prefixed}" + (f" ({towers})" if towers else ""))


def _escaped(text: str) -> str:
    for character in "\\`*_{}[]<>|#":
        text = text.replace(character, f"\\{character}")
    return text
