"""What results look like on a terminal, at the width of one."""

import io
import re
from dataclasses import replace

from rich.console import Console, RenderableType

import tiny
from adapterhub.cli import tables
from adapterhub.sites import discover
from adapterhub.training.compare import Comparison, MethodResult
from adapterhub.training.settings import Result, Settings


def shown(part: RenderableType, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(part, markup=False)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def method(name: str, accuracy: float, collapsed: bool = False) -> MethodResult:
    run = Result(
        Settings(method=name), 0.8, accuracy, 0.5, ((1.0, 0.3),), ((1.0, 0.8),), collapsed, 300_000, 600, 23_000_000,
        1_200_000, 61.0, 900_000_000, "fp32",
    )  # fmt: skip
    return MethodResult(name, (run,), 1e-3, (run, replace(run, settings=replace(run.settings, seed=1))))


def test_a_comparison_is_a_sentence_a_table_and_notes() -> None:
    methods = (method("seq_bn", 0.825), method("full", 0.5, collapsed=True))
    lines = shown(tables.comparison(Comparison("minilm", {}, methods, (0, 1), {}, {})), 100)
    assert lines[0] == (
        "An adapter reached 82.5 % on test, training 1.30 % of the parameters; full fine-tuning reached 50.0"
    )
    (heading,) = (line for line in lines if "test acc." in line)
    (adapter,) = (line for line in lines if line.startswith("adapter seq_bn"))
    assert heading.split("  ")[-1].strip() == "rate" and adapter.split()[-1] == "0.001"
    assert "82.5 ± 0.0" in adapter and "300,000" in adapter and "1.2 MB" in adapter and "61 s" in adapter
    assert lines[-1] == "full fine-tuning: collapsed (seeds 0, 1)"


def test_it_fits_a_terminal() -> None:
    methods = (method("seq_bn[reduction_factor=6,non_linearity=gelu]", 0.825), method("full", 0.5), method("head", 0.7))
    lines = shown(tables.comparison(Comparison("minilm", {}, methods, (0, 1), {}, {})), 80)
    assert max(map(len, lines)) <= 80 and not any("…" in line for line in lines)


def test_pairs_leave_out_what_is_not_there() -> None:
    assert shown(tables.pairs({"a": 1, "long name": "[x]", "c": None})) == ["a          1", "long name  [x]"]


def test_predictions_are_label_score_and_text() -> None:
    answers = [{"label": "good", "score": 0.987, "text": "[b]fine[/b]"}, {"label": "bad", "score": 0.5, "text": "x"}]
    assert shown(tables.predictions(answers)) == ["good  0.99  [b]fine[/b]", "bad   0.50  x"]


def test_layers_alike_are_one_line_those_that_differ_are_not() -> None:
    def kinds(family: str) -> list[str]:
        lines = shown(tables.sites(discover(tiny.model(family))), 120)
        return [kind for line in lines for kind in re.findall(r" (\S*attention|feed-forward) ", line)]

    assert kinds("bert") == ["attention", "feed-forward"]
    assert kinds("t5") == ["attention", "feed-forward", "attention", "cross-attention", "feed-forward"]
