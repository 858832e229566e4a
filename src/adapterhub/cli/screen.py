"""Where a command speaks: results on standard output, for people or machines, and all else on standard error."""

import json
import math
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType
from rich.text import Text

if TYPE_CHECKING:
    from adapterhub.training.progress import Progress


@dataclass(frozen=True)
class Screen:
    """How a command speaks.

    Attributes:
        arguments: those of the command line, to say how to go on after an interruption.
        json: print one JSON document on standard output, and nothing else.
        quiet: no word but the result and errors.
    """

    arguments: Sequence[str] = ()
    json: bool = False
    quiet: bool = False
    out: Console = field(default_factory=lambda: Console(file=sys.stdout, highlight=False))
    err: Console = field(default_factory=lambda: Console(stderr=True, highlight=False))

    def say(self, text: str) -> None:
        """Tell a person what goes on."""
        if not self.quiet:
            self.err.print(text, style="dim", markup=False, soft_wrap=True)

    def show(self, values: Any, *parts: RenderableType) -> None:
        """Give the outcome: ``values`` to a machine, ``parts`` to a person. Plain text in ``parts`` holds no markup."""
        if self.json:
            print(json.dumps(_finite(values), indent=1, default=str), file=self.out.file)
            return
        for part in parts:
            self.out.print(part, markup=False, soft_wrap=isinstance(part, str | Text))

    def fail(self, kind: str, message: str, **more: Any) -> None:
        """Say what went wrong, to people and machines."""
        self.err.print("[red]error:[/red] " if kind != "Interrupted" else "", end="")
        self.err.print(message, markup=False, soft_wrap=True)
        if self.json:
            self.show({"error": {"type": kind, "message": message, **more}})

    def command(self, *add: str, without: Sequence[str] = (), arguments: Sequence[str] | None = None) -> str:
        """This command line as one types it, with some arguments more or less; or another one of this program."""
        given = self.arguments if arguments is None else arguments
        kept = [argument for argument in given if argument not in (*add, *without)]
        return join([_program(), *kept, *add])

    @contextmanager
    def progress(self) -> "Iterator[Progress]":
        """A bar for long work, on standard error; where that is no terminal, a line whenever something new begins."""
        if self.quiet:
            yield lambda done, total, what: None
        elif self.err.is_terminal:
            with _bar(self.err) as update:
                yield update
        else:
            yield _Lines(self)


class _Lines:
    """Progress for a log."""

    def __init__(self, screen: Screen) -> None:
        self.screen, self.last = screen, ""

    def __call__(self, done: float, total: float, what: str) -> None:
        if what != self.last:
            self.screen.say(f"{100 * done / max(total, 1):3.0f} %  {what}")
            self.last = what


@contextmanager
def _bar(console: Console) -> "Iterator[Progress]":
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.table import Column

    columns = (
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
    )
    # The speed is judged over a long time: runs of a comparison take turns at being fast and slow.
    bars = Progress(*columns, console=console, transient=True, speed_estimate_period=3600)
    task = bars.add_task("", total=None)
    with bars:
        yield lambda done, total, what: bars.update(task, completed=done, total=total, description=what)


def _program() -> str:
    """What one types to run this program here."""
    path = Path(sys.argv[0])
    if path.name != "adapterhub":
        return "adapterhub"
    found = shutil.which("adapterhub")
    if found and Path(found).resolve() == path.resolve():
        return "adapterhub"
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _finite(values: Any) -> Any:
    """JSON has no word for what is no number: null stands for it."""
    if isinstance(values, dict):
        return {key: _finite(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_finite(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values
