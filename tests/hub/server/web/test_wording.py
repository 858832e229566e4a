"""How numbers, times and messages are written."""

from datetime import timedelta

import pytest

from adapterhub.hub.server.database import now
from adapterhub.hub.server.web import wording


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1k"),
        (1284, "1.3k"),
        (9960, "10k"),
        (294_912, "295k"),
        (1_040_000, "1M"),
        (7e9, "7B"),
    ],
)
def test_short_numbers(number: float, text: str) -> None:
    assert wording.short(number) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 bytes"), (1, "1 byte"), (757, "757 bytes"), (1_190_000, "1.2 MB"), (2.5e9, "2.5 GB")]
)
def test_sizes(number: float, text: str) -> None:
    assert wording.size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1, "just now"), (20, "20 seconds ago"), (61, "1 minute ago"), (7300, "2 hours ago"), (90_000, "1 day ago")],
)
def test_how_long_ago(seconds: int, text: str) -> None:
    assert wording.ago(now() - timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(("value", "text"), [(0.941, "94.1"), (1.0, "100.0"), (27.345, "27.34"), (-0.2, "-20.0")])
def test_scores(value: float, text: str) -> None:
    assert wording.score(value) == text


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("**a** and *b*, `c_d`", "a and b, c_d"),
        ("see [the paper](https://arxiv.org/abs/1)", "see the paper"),
        ("snake_case_name and _emphasis_", "snake_case_name and emphasis"),
    ],
)
def test_markdown_without_its_marks(text: str, plain: str) -> None:
    assert wording.plain(text) == plain


def test_messages_are_sentences() -> None:
    assert wording.sentence("there is none") == "There is none."
    assert wording.sentence("Is it?") == "Is it?"
