"""The page of a comparison: what it says, and that it is safe and whole by itself."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from adapterhub.training.compare import Comparison, MethodResult
from adapterhub.training.report import headline, percent, row, size, title, write_report
from adapterhub.training.settings import Result, Settings

EVIL = '<script>alert("1")</script>'


def result(method: str, rate: float, seed: int, test: float, trained: int) -> Result:
    curve = ((0.5, 0.7), (1.0, 0.4))
    return Result(
        Settings(method=method, learning_rate=rate, seed=seed), 0.8, test, 0.5, curve, ((1.0, 0.8),), False,
        trained, 100, 1_000_000, 4 * trained, 12.4, 1_234_000_000, "bf16",
    )  # fmt: skip


def method(name: str, tests: tuple[float, ...], trained: int) -> MethodResult:
    runs = tuple(result(name, 1e-3, seed, test, trained) for seed, test in enumerate(tests))
    return MethodResult(name, (runs[0], result(name, 3e-3, 0, 0.5, trained)), 1e-3, runs)


@pytest.fixture
def comparison() -> Comparison:
    methods = (
        method("seq_bn[reduction_factor=6]", (0.82, 0.84, 0.83), 13_000),
        method("full", (0.83, 0.85, 0.81), 1_000_000),
        method("head", (0.7, 0.7, 0.7), 0),
    )
    data = {"name": "films", "rows": {"train": 80, "validation": 10, "test": 10}, "labels": ["bad", "good"]}
    data |= {"notes": ["test: held out"], "fingerprint": "0"}
    return Comparison("minilm", data, methods, (0, 1, 2), {"processor": "x", "cores": 2, "gpu": None}, {"torch": "2"})


class Page(HTMLParser):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_the_page_tells_what_was_found(comparison: Comparison, tmp_path: Path) -> None:
    page = Page(
        write_report(comparison, tmp_path / "report.html", ({"text": "a fine film", "label": "good", "score": 0.987},))
    )
    for words in ("83.0 ± 1.0", "83.0 ± 2.0", "70.0 ± 0.0", "13,000", "1.30 %", "52.0 kB", "12 s", "1.2 GB", "0.001"):
        assert words in page.text
    assert headline(comparison) in page.text
    assert "films: 80 rows to train, 10 to choose, 10 to test; labels bad, good; test: held out" in page.text
    assert "good 0.99 a fine film" in page.text
    assert sum(tag == "svg" for tag, _ in page.tags) == 4


def test_what_comes_from_outside_is_shown_and_not_run(comparison: Comparison, tmp_path: Path) -> None:
    data = {**comparison.data, "name": EVIL, "labels": [EVIL, "b"], "notes": [EVIL]}
    evil = replace(comparison, model=EVIL, data=data, machine={"processor": EVIL, "cores": 1, "gpu": EVIL})
    path = write_report(evil, tmp_path / "report.html", ({"text": EVIL, "label": EVIL, "score": 0.5},))
    page = Page(path)
    assert not any(tag == "script" for tag, _ in page.tags)
    assert page.text.count(EVIL) >= 7


def test_the_page_needs_no_network(comparison: Comparison, tmp_path: Path) -> None:
    page = Page(write_report(comparison, tmp_path / "report.html"))
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "data"):
            value = attributes.get(name) or ""
            assert not value or value.startswith("#"), (tag, value)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "@import" not in text and not re.search(r"url\((?!#)", text)


def test_a_report_depends_on_its_comparison_alone(comparison: Comparison, tmp_path: Path) -> None:
    one = write_report(comparison, tmp_path / "one.html").read_bytes()
    assert one == write_report(comparison, tmp_path / "new" / "two.html").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "one.html"], "no partial file is left"


def test_plots_are_well_formed(comparison: Comparison, tmp_path: Path) -> None:
    text = write_report(comparison, tmp_path / "report.html").read_text(encoding="utf-8")
    for plot in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        assert ET.fromstring(plot).get("viewBox")
        assert "#010203" not in plot, "text has the colour of the page"


def test_the_headline_holds_the_best_adapter_against_full_fine_tuning(comparison: Comparison) -> None:
    assert headline(comparison) == (
        "An adapter reached 83.0 % on test, training 1.30 % of the parameters; full fine-tuning reached 83.0 %."
    )
    better = method("par_bn", (0.9,), 20_000)
    methods = (comparison.methods[0], better, comparison.methods[2])
    expected = "An adapter reached 90.0 % on test, training 2.00 % of the parameters."
    assert headline(replace(comparison, methods=methods)) == expected
    assert headline(replace(comparison, methods=comparison.methods[1:])) == "Full fine-tuning reached 83.0 % on test."


def test_a_row_names_collapses(comparison: Comparison) -> None:
    runs = tuple(replace(run, collapsed=run.settings.seed > 0) for run in comparison.methods[0].runs)
    cells = row(replace(comparison.methods[0], runs=runs))
    assert cells["note"] == "collapsed (seeds 1, 2)" and cells["method"] == "adapter seq_bn[reduction_factor=6]"
    assert row(replace(comparison.methods[0], runs=runs[:1]))["accuracy"] == "82.0"


def test_numbers_are_for_people() -> None:
    assert [size(n) for n in (0, 999, 1234, 99_950, 1e6, 123_456_789, 2.5e9)] == [
        "0 B", "999 B", "1.2 kB", "100.0 kB", "1.0 MB", "123 MB", "2.5 GB",
    ]  # fmt: skip
    assert percent(0.82549) == "82.5"
    assert [title(name) for name in ("full", "head", "seq_bn")] == ["full fine-tuning", "head only", "adapter seq_bn"]
