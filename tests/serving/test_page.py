"""The page to try a server on, in a real browser."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.conftest import Served

playwright = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")

CHROMIUM = Path("/usr/bin/chromium")
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}: install Debian's chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        made = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield made
        made.close()


@pytest.mark.parametrize(("width", "colours"), [(1280, "light"), (390, "dark")])
def test_adapters_answer_side_by_side(browser: Any, served: Served, width: int, colours: str) -> None:
    page = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=colours).new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(served.url)
    page.get_by_label("sentiment").wait_for()
    page.get_by_label("Text", exact=True).fill("the film was very good and the book is bad")
    page.get_by_label("question about the text").fill("is the film good")
    for box in page.get_by_role("checkbox").all():
        box.check()
    page.get_by_label("One more, by name").fill("german > names")
    page.get_by_role("button", name="Compare").click()
    said = page.get_by_text(re.compile(r"\d of \d answered\."))
    said.wait_for(timeout=120_000)
    cards = {card.locator("h3").inner_text(): card.inner_text() for card in page.get_by_role("article").all()}
    assert said.inner_text() == "7 of 9 answered.", cards  # one has no head, and nothing is masked for another
    assert "good" in cards["sentiment"] and "%" in cards["sentiment"]
    assert "X" in cards["german > names"]
    assert "no head" in cards["german"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert axe.Axe().run(page).violations_count == 0
    assert errors == []
