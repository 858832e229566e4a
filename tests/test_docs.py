"""The listings of the read-me and of the documentation run, on a tiny model in the place of the one that they name."""

import re
from pathlib import Path

import pytest
from transformers import RobertaTokenizer  # noqa: F401 - transformers has to know it before the folder is read

import tiny
from tokens import WORDS, tokenizer

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def listings(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which ``from_pretrained("roberta-base")`` finds a tiny model of that kind."""
    folder = tmp_path / "roberta-base"
    tiny.model("roberta", "ForMaskedLM").save_pretrained(folder)
    tokenizer(folder)
    assert WORDS
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.mark.parametrize("page", [page for page in PAGES if listings(page)], ids=lambda page: page.name)
def test_listings_run_one_after_another(page: Path, hub: Path) -> None:
    names: dict[str, object] = {"__name__": "listing"}
    for number, text in enumerate(listings(page), 1):
        exec(compile(text, f"{page.name}, listing {number}", "exec"), names)


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    assert [page for page in pages if page not in navigation] == []


def test_every_public_name_is_in_the_api_page() -> None:
    import adapterhub

    api = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert [name for name in adapterhub.__all__ if not re.search(rf"\b{name}\b", api)] == []
