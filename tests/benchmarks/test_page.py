"""The page of the benchmarks is what their results say."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def page() -> Iterator[ModuleType]:
    """The script, imported as it is when it is run: with its neighbours on the path, which others do not see."""
    before = set(sys.modules)
    sys.path.insert(0, str(SCRIPTS))
    try:
        yield importlib.import_module("page")
    finally:
        sys.path.remove(str(SCRIPTS))
        for name in set(sys.modules) - before:
            if getattr(sys.modules[name], "__file__", None) and Path(str(sys.modules[name].__file__)).parent == SCRIPTS:
                del sys.modules[name]


@pytest.fixture(scope="module")
def asked(page: ModuleType) -> ModuleType:
    return sys.modules["asked"]


def test_it_is_made_from_the_results_that_are_there(page: ModuleType) -> None:
    results = {path.stem: json.loads(path.read_text()) for path in page.RESULTS.glob("*.json")}
    for path, text in page.files(results).items():
        assert (page.PAGE.parent / path).read_text() == text, f"{path}: run `python benchmarks/page.py`"


def test_every_bound_belongs_to_a_benchmark_of_the_page(page: ModuleType, asked: ModuleType) -> None:
    assert {one.benchmark for one in asked.ASKED} <= set(page.SECTIONS)
    for name in page.SECTIONS:
        assert (SCRIPTS / f"{name}.py").is_file()


@pytest.mark.parametrize(
    ("least", "value", "interval", "met", "shown"),
    [
        (False, {"ratio": 0.9, "ratio_interval": [0.8, 1.2]}, (0.8, 1.2), True, "0.900 [0.800, 1.200]"),
        (False, {"ratio": 1.1, "ratio_interval": [0.8, 1.2]}, (0.8, 1.2), False, "1.100 [0.800, 1.200]"),
        (True, 2.5, None, True, "2.500"),
        (True, 0.5, None, False, "0.500"),
    ],
)
def test_a_bound_is_met_by_the_figure_itself(
    monkeypatch: pytest.MonkeyPatch,
    asked: ModuleType,
    least: bool,
    value: Any,
    interval: Any,
    met: bool,
    shown: str,
) -> None:
    one = asked.Asked("time", "rows", 1.0, lambda result: result["figure"], least=least)
    monkeypatch.setattr(asked, "ASKED", (one,))
    (answer,) = asked.answers({"rows": {"figure": value}, "fast": {}})
    assert (answer.met, answer.interval, asked.figure(answer)) == (met, interval, shown)
    assert (answer.used(answer.value) <= 1) == met


def test_a_part_that_was_not_run_is_left_out(monkeypatch: pytest.MonkeyPatch, asked: ModuleType) -> None:
    monkeypatch.setattr(asked, "ASKED", (asked.Asked("time", "rows", 1.0, lambda result: result["bf16"]),))
    assert not list(asked.answers({"rows": {"fp32": 1.0}}))
