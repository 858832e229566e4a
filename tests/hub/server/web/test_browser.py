"""The site in a real browser: what people see and do, with a mouse, with keys alone, on a phone, without scripts."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.settings import Settings
from hub.server.answering import LIKELY, TOKEN, Answering, answering
from hub.server.running import Running, start
from hub.server.web import demo

playwright = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")

CHROMIUM = Path("/usr/bin/chromium")
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}: install Debian's chromium")

DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
LORA = "/stitch-lab/roberta-base-sst2-lora"
TRIED = "/ada/roberta-base-sst2-pfeiffer"
FOR_ALL = [
    *("/", "/explore/tasks", "/explore/languages", "/explore/tasks/sentiment", "/explore/tasks/sentiment/sst-2"),
    *("/search", "/search?q=roberta&method=lora", "/models", "/models/roberta-base", "/leaderboards"),
    *("/leaderboards/sentiment/sst-2", f"/compare?id={LORA[1:]}&id=ada/roberta-base-sst2-pfeiffer", "/docs"),
    *(
        "/stitch-lab",
        "/stitch-lab/mnli-then-sst2",
        LORA,
        TRIED,
        f"{LORA}/tree/main",
        f"{LORA}/commits/main",
        f"{LORA}/blob/main/README.md",
        "/login",
    ),
]
FOR_ADA = [
    *(
        "/upload",
        "/settings",
        "/settings/tokens",
        "/settings/organisations",
        "/settings/organisations/stitch-lab",
        "/settings/keys",
        "/settings/webhooks",
    ),
    *("/admin", "/admin/audit", f"{LORA}/settings", LORA),
]


@dataclass
class Tab:
    """A page of a browser; ``errors`` is all that it complained of, breaches of the content policy as well."""

    page: Any
    url: str
    errors: list[str] = field(default_factory=list)

    def open(self, path: str) -> Any:
        """Go to a path of the hub."""
        return self.page.goto(self.url + path)

    def press(self, *keys: str) -> None:
        """Press keys one after another."""
        for key in keys:
            self.page.keyboard.press(key)

    @property
    def focus(self) -> str:
        """The text, the value or the name of what has the focus."""
        return str(
            self.page.evaluate(
                "e => (e.innerText || e.name || e.id).trim()", self.page.locator(":focus").element_handle()
            )
        )


@pytest.fixture(scope="module")
def predicting() -> Iterator[Answering]:
    """What adapters of that hub are tried on."""
    with answering() as made:
        yield made


@pytest.fixture(scope="module")
def served(predicting: Answering, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server of a hub with something in it."""
    folder = tmp_path_factory.mktemp("browsed") / "hub"
    hub = Hub.open(Settings(directory=folder))
    demo.fill(hub)
    hub.close()
    attached = {"ADAPTERHUB_SERVING_URL": predicting.url, "ADAPTERHUB_SERVING_TOKEN": TOKEN}
    made = start(folder, ADAPTERHUB_OPEN_REGISTRATION="true", **attached)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        made = running.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture(scope="module")
def ada(served: Running, browser: Any) -> Any:
    """What a browser keeps after ada has signed in."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{served.url}/login")
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill(demo.PASSWORD)
    page.get_by_role("main").get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{served.url}/")
    state = context.storage_state()
    context.close()
    return state


@pytest.fixture
def tab(served: Running, browser: Any) -> Iterator[Callable[..., Tab]]:
    """Opens pages with the given options of a browser; at the end, none may have complained."""
    made: list[Tab] = []

    def make(**options: Any) -> Tab:
        context = browser.new_context(**{"viewport": DESKTOP, **options})
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        opened = Tab(context.new_page(), served.url)
        opened.page.set_default_timeout(8000)
        opened.page.on("console", lambda said: opened.errors.append(said.text) if said.type == "error" else None)
        opened.page.on("pageerror", lambda error: opened.errors.append(str(error)))
        made.append(opened)
        return opened

    yield make
    for one in made:
        one.page.context.close()
    assert [error for one in made for error in one.errors] == []


def _serious(page: Any, theme: str) -> list[str]:
    """What axe-core finds in a page that keeps people from using it."""
    page.emulate_media(color_scheme=theme)
    rules = None if theme == "light" else {"runOnly": ["color-contrast"]}
    found = axe.Axe().run(page, options=rules).response["violations"]
    return [
        f"{theme} {page.url}: {one['id']}: {node['target']}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


def _look(one: Tab, paths: list[str]) -> list[str]:
    """What is wrong with pages: statuses, findings of axe-core, pages wider than a phone."""
    wrong = []
    for path in paths:
        one.page.set_viewport_size(DESKTOP)
        if (status := one.open(path).status) != 200:
            wrong.append(f"{path}: {status}")
        for theme in ("light", "dark"):
            wrong += _serious(one.page, theme)
        one.page.set_viewport_size(PHONE)
        if (width := one.page.evaluate("document.documentElement.scrollWidth")) > PHONE["width"]:
            wrong.append(f"{path}: {width} pixels wide on a phone")
    return wrong


def test_every_page_for_all(tab: Callable[..., Tab]) -> None:
    assert _look(tab(), FOR_ALL) == []


def test_every_page_for_who_is_signed_in(tab: Callable[..., Tab], ada: Any) -> None:
    assert _look(tab(storage_state=ada), FOR_ADA) == []


def test_from_the_first_page_to_code_in_the_clipboard(tab: Callable[..., Tab]) -> None:
    one = tab()
    one.open("/")
    main = one.page.get_by_role("main")
    main.get_by_role("link", name="Sentiment Analysis").first.click()
    main.get_by_role("link", name="SST-2").first.click()
    main.get_by_role("link", name="roberta-base 2").click()
    assert one.page.get_by_role("status").inner_text() == "2 adapters"
    main.get_by_role("listitem").get_by_role("link", name="stitch-lab/roberta-base-sst2-lora").click()
    main.get_by_role("button", name="Copy").first.click()
    main.get_by_role("button", name="Copied").wait_for()
    copied = one.page.evaluate("navigator.clipboard.readText()")
    assert re.search(r'load_adapter\(\s+"stitch-lab/roberta-base-sst2-lora@[0-9a-f]{40}"', copied)
    compile(copied, "copied", "exec")


def test_code_is_in_tabs_that_keys_move_through(tab: Callable[..., Tab]) -> None:
    one = tab()
    one.open(LORA)
    one.page.get_by_role("tab", name="Load").focus()
    one.press("ArrowRight")
    assert one.page.get_by_role("tab", name="Stack").get_attribute("aria-selected") == "true"
    assert "Stack(" in one.page.get_by_role("tabpanel").inner_text()
    one.press("ArrowLeft", "ArrowLeft")
    assert one.focus == "Shell" and "curl" in one.page.get_by_role("tabpanel").inner_text()


def test_search_as_one_types_by_keys_alone(tab: Callable[..., Tab]) -> None:
    one = tab()
    one.open("/explore/tasks")
    one.press("/")
    one.page.keyboard.type("sst")
    one.page.get_by_role("option").first.wait_for()
    one.press("ArrowDown")
    field = one.page.get_by_role("combobox", name="Search adapters")
    chosen = one.page.locator(f"#{field.get_attribute('aria-activedescendant')}")
    assert chosen.get_attribute("aria-selected") == "true"
    one.press("Enter")
    one.page.wait_for_url("**/explore/tasks/sentiment/sst*")
    one.press("/")
    one.page.keyboard.type("imdb lora")
    one.page.get_by_role("option").first.wait_for()
    one.press("Escape", "Enter")
    one.page.wait_for_url("**/search?q=imdb+lora")
    assert one.page.get_by_role("main").get_by_role("link", name="ben/bert-base-imdb-lora-r16").is_visible()


def test_signing_in_and_out_by_keys_alone(tab: Callable[..., Tab]) -> None:
    one = tab()
    one.open("/login")
    one.press("Tab")
    assert one.focus == "Skip to the content"
    one.press("Enter", "Tab")
    assert one.focus == "name"
    one.page.keyboard.type("ben")
    one.press("Tab")
    one.page.keyboard.type(demo.PASSWORD)
    one.press("Enter")
    one.page.wait_for_url(f"{one.url}/")
    one.page.get_by_label("Your account").focus()
    one.press("Enter", "Tab", "Tab", "Tab")
    assert one.focus == "Settings"
    one.press("Escape")
    assert one.page.get_by_role("link", name="Settings").count() == 0
    one.press("Enter", "Shift+Tab", "Tab", "Tab", "Tab", "Tab", "Tab", "Tab")
    assert one.focus == "Sign out"
    one.press("Enter")
    one.page.get_by_text("You are signed out.").wait_for()


def test_the_theme_is_kept(tab: Callable[..., Tab]) -> None:
    one = tab(color_scheme="light")
    one.open("/")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = one.page.evaluate(ground)
    one.page.get_by_role("button", name="Change between light and dark").click()
    dark = one.page.evaluate(ground)
    assert dark != light
    one.open("/explore/tasks")
    assert one.page.evaluate(ground) == dark


def _folder(where: Path, **more: bytes) -> Path:
    for path, data in {**demo.lora("roberta-base", layers=2), "README.md": b"# Mine\n", **more}.items():
        where.mkdir(exist_ok=True)
        (where / path).write_bytes(data)
    return where


def test_a_folder_is_uploaded_and_bad_files_in_it_are_named(tab: Callable[..., Tab], ada: Any, tmp_path: Path) -> None:
    one = tab(storage_state=ada)
    one.open("/upload")
    one.page.locator("#folder").set_input_files(_folder(tmp_path / "mine", **{"model.bin": b"\x80\x04"}))
    bad = one.page.locator(".sent .bad")
    bad.wait_for()
    assert "model.bin" in bad.inner_text() and "adapterhub convert" in bad.inner_text()
    one.page.locator(".sent .good").nth(2).wait_for()
    assert one.page.get_by_role("button", name="Publish").is_disabled()
    bad.get_by_role("button", name="Leave out").click()
    one.page.get_by_label("Name", exact=True).fill("by-folder")
    one.page.get_by_role("button", name="Publish").click()
    one.page.wait_for_url("**/ada/by-folder?said=published")
    assert one.page.get_by_role("heading", name="Use it").is_visible()
    one.errors[:] = [error for error in one.errors if "422" not in error]  # the answer that names the bad file


def test_files_that_are_dropped_are_uploaded(tab: Callable[..., Tab], ada: Any) -> None:
    one = tab(storage_state=ada)
    one.open("/upload")
    one.page.evaluate(
        """() => {
          const dropped = new DataTransfer();
          dropped.items.add(new File(["# Dropped\\n"], "README.md"));
          const drop = document.querySelector("[data-drop]");
          drop.dispatchEvent(new DragEvent("dragover", {dataTransfer: dropped, bubbles: true, cancelable: true}));
          drop.dispatchEvent(new DragEvent("drop", {dataTransfer: dropped, bubbles: true, cancelable: true}));
        }"""
    )
    one.page.locator(".sent .good").wait_for()
    one.page.get_by_label("Name", exact=True).fill("dropped")
    one.page.get_by_role("button", name="Publish").click()
    one.page.get_by_role("heading", name="Dropped", exact=True).wait_for()


def test_an_adapter_is_tried_by_keys_alone(tab: Callable[..., Tab], predicting: Answering) -> None:
    one = tab()
    one.open(TRIED)
    one.page.get_by_label("Text", exact=True).focus()
    one.page.keyboard.type("A great film")
    one.press("Control+Enter")
    said = one.page.get_by_role("region", name="Try it").get_by_role("status")
    said.get_by_text("93.0 %").wait_for()
    assert said.get_by_role("listitem").all_inner_texts() == ["positive\n93.0 %", "negative\n7.0 %"]
    assert one.page.url == one.url + TRIED and one.focus == "first"  # the page stays as it is
    assert predicting.got[-1][1]["inputs"] == ["A great film"]
    widths = [bar.bounding_box()["width"] for bar in said.locator(".bar .fill").all()]
    assert widths[0] == pytest.approx(13 * widths[1], rel=0.1)  # no style of its own stands in the page
    assert [_serious(one.page, theme) for theme in ("light", "dark")] == [[], []]
    one.page.set_viewport_size(PHONE)
    assert one.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    one.press("Tab", "Tab")
    assert one.focus == "Run"
    predicting.status = 503
    one.press("Enter")
    one.page.get_by_role("alert").get_by_text("has too much to do: try again in 5 seconds").wait_for()
    predicting.status = 200
    assert _serious(one.page, "dark") == []
    one.errors[:] = [error for error in one.errors if "429" not in error]


def test_marks_are_read_out_with_what_they_are(tab: Callable[..., Tab], predicting: Answering) -> None:
    one = tab(java_script_enabled=False)
    predicting.output = {"spans": [{"text": "Tom", "start": 0, "end": 3, "score": 0.9, "label": "PER"}]}
    one.open(TRIED)
    one.page.get_by_label("Text", exact=True).fill("Tom is here")
    one.page.get_by_role("button", name="Run").click()
    one.page.wait_for_url(f"**{TRIED}/try#try")
    predicting.output = dict(LIKELY)
    assert one.page.get_by_role("region", name="Try it").locator("mark").inner_text() == "Tom PER"
    assert one.page.get_by_label("Text", exact=True).input_value() == "Tom is here"


def test_without_scripts_all_of_it_works(tab: Callable[..., Tab], tmp_path: Path) -> None:
    one = tab(java_script_enabled=False)
    one.open("/login?next=/upload")
    one.page.get_by_label("Name").fill("ben")
    one.page.get_by_label("Password").fill(demo.PASSWORD)
    one.page.get_by_role("main").get_by_role("button", name="Sign in").click()
    one.page.wait_for_url("**/upload")
    one.page.locator("#files").set_input_files(sorted(_folder(tmp_path / "mine").iterdir()))
    one.page.get_by_label("Name", exact=True).fill("by-form")
    one.page.get_by_role("button", name="Publish").click()
    one.page.wait_for_url("**/ben/by-form?said=published")
    headings = one.page.get_by_role("main").get_by_role("heading", level=3).all_inner_texts()
    assert headings[:3] == ["Load", "Stack", "Fine-tune"]
    one.page.get_by_role("search").get_by_label("Search adapters").fill("roberta")
    one.press("Enter")
    one.page.wait_for_url("**/search?q=roberta")
    one.page.get_by_label("Sort").select_option("updated")
    one.page.get_by_role("button", name="Sort").click()
    assert "sort=updated" in one.page.url


def test_a_token_is_made_and_copied(tab: Callable[..., Tab], ada: Any) -> None:
    one = tab(storage_state=ada)
    one.open("/settings/tokens")
    one.page.get_by_label("Name").fill("laptop")
    one.page.get_by_role("button", name="Make the token").click()
    one.page.get_by_role("button", name="Copy").click()
    one.page.get_by_role("button", name="Copied").wait_for()
    assert re.fullmatch(r"ah_[0-9a-f]{72}", one.page.evaluate("navigator.clipboard.readText()"))


def test_a_script_in_a_card_would_be_stopped_by_the_policy(tab: Callable[..., Tab]) -> None:
    one = tab()
    one.open(LORA)
    one.page.evaluate(
        """() => {
          const script = document.createElement("script");
          script.textContent = "window.ran = 1";
          document.body.append(script);
        }"""
    )
    assert one.page.evaluate("window.ran") is None
    assert any("Content Security Policy" in error for error in one.errors)
    one.errors.clear()
