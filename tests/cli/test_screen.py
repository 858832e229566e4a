"""How commands speak to people, to logs and to machines."""

import io
import json
import math

import pytest
from rich.console import Console

from adapterhub.cli import screen as module
from adapterhub.cli.screen import Screen


def made(json: bool = False, quiet: bool = False, terminal: bool = False, arguments: tuple[str, ...] = ()) -> Screen:
    out, err = (Console(file=io.StringIO(), force_terminal=terminal, width=80, highlight=False) for _ in range(2))
    return Screen(arguments, json, quiet, out, err)


def text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_texts_hold_no_markup() -> None:
    screen = made()
    screen.say("[bold]loud[/bold]")
    screen.show({}, "[red]colour[/red]")
    screen.fail("DataError", "[i]slant[/i]")
    assert "[bold]loud[/bold]" in text(screen.err) and "error: [i]slant[/i]" in text(screen.err)
    assert text(screen.out) == "[red]colour[/red]\n"


def test_long_lines_are_not_broken() -> None:
    screen = made()
    screen.fail("DataError", "x" * 200)
    assert "x" * 200 in text(screen.err)


def test_json_has_null_for_what_is_no_number() -> None:
    screen = made(json=True)
    screen.show({"loss": math.nan, "more": [math.inf, 1.5, {"x": -math.inf}], "name": "nan"}, "not shown")
    assert json.loads(text(screen.out)) == {"loss": None, "more": [None, 1.5, {"x": None}], "name": "nan"}


def test_an_error_is_a_document_too() -> None:
    screen = made(json=True)
    screen.fail("Interrupted", "words", resume="again")
    assert json.loads(text(screen.out)) == {"error": {"type": "Interrupted", "message": "words", "resume": "again"}}
    assert text(screen.err) == "words\n"


def test_a_log_has_a_line_for_what_is_new() -> None:
    screen = made()
    with screen.progress() as progress:
        for done, what in ((0, "a"), (1, "a"), (2, "b"), (4, "b")):
            progress(done, 4, what)
        progress(0, 0, "nothing to do")
    assert text(screen.err) == "  0 %  a\n 50 %  b\n  0 %  nothing to do\n"


def test_a_terminal_has_a_bar_that_goes_away() -> None:
    screen = made(terminal=True)
    with screen.progress() as progress:
        progress(1, 4, "[red]what[/red]")
    shown = text(screen.err)
    assert "25%" in shown and "[red]what[/red]" in shown
    assert shown.endswith("\x1b[2K"), "the line is erased"


def test_quiet_says_nothing() -> None:
    screen = made(quiet=True)
    screen.say("words")
    with screen.progress() as progress:
        progress(1, 2, "work")
    assert text(screen.err) == text(screen.out) == ""


def test_a_command_is_shown_as_one_types_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_program", lambda: "adapterhub")
    screen = made(arguments=("train", "my data.csv", "--overwrite", "--resume"))
    assert screen.command("--resume", without=("--overwrite",)) == "adapterhub train 'my data.csv' --resume"
    assert screen.command(arguments=("predict", "x", "it's")) == "adapterhub predict x 'it'\"'\"'s'"
