"""What all commands have in common: three options, exit codes, and errors in a few words."""

import inspect
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from functools import wraps
from typing import Annotated, Any

import typer

from adapterhub.cli.screen import Screen
from adapterhub.errors import AdapterHubError

DONE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130
_SHARED = {
    "json": Annotated[
        bool, typer.Option("--json", help="Print one JSON document on standard output, and nothing else there.")
    ],
    "quiet": Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the result.")],
    "debug": Annotated[bool, typer.Option("--debug", help="Show tracebacks and the warnings of libraries.")],
}


Calm = Callable[[bool], AbstractContextManager[None]]  # of whether a person wants to see all that libraries say


class Resumable(KeyboardInterrupt):
    """An interruption after which ``command`` goes on; ``kept`` says what is not lost."""

    def __init__(self, kept: str, command: str) -> None:
        super().__init__(f"Interrupted; {kept}. Go on by:\n  {command}")
        self.command = command


def command(function: Callable[..., None]) -> Callable[..., None]:
    """A command from a function whose first argument is a ``Screen``; the options that all have are added."""
    return _command(function, _calm)


def model_command(function: Callable[..., None]) -> Callable[..., None]:
    """As ``command``, for one that loads models: transformers, which takes time to import, is kept calm too."""
    return _command(function, _calm_with_models)


def _command(function: Callable[..., None], calm: Calm) -> Callable[..., None]:
    _screen, *own = inspect.signature(function).parameters.values()
    keyword = inspect.Parameter.KEYWORD_ONLY
    shared = [
        inspect.Parameter(name, keyword, default=False, annotation=annotation) for name, annotation in _SHARED.items()
    ]
    context = inspect.Parameter("context", keyword, annotation=typer.Context)
    parameters = [parameter.replace(kind=keyword) for parameter in own]

    @wraps(function)
    def run(context: typer.Context, json: bool, quiet: bool, debug: bool, **given: Any) -> None:
        screen = Screen(context.obj or (), json, quiet)
        with calm(debug), _terminable(), redirect_stdout(sys.stderr) if json else nullcontext():
            code = _attempt(lambda: function(screen, **given), screen, debug)
        raise typer.Exit(code)

    run.__signature__ = inspect.Signature([context, *parameters, *shared])  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in [context, *parameters, *shared]}
    return run


def _attempt(work: Callable[[], None], screen: Screen, debug: bool) -> int:
    """Do the work; an error becomes a few words and an exit code, a wrong usage is left to typer."""
    try:
        work()
    except KeyboardInterrupt as error:
        resume = {"resume": error.command} if isinstance(error, Resumable) else {}
        screen.fail("Interrupted", str(error) if resume else "Interrupted.", **resume)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of the output went away, as "| head" does: no error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        if debug or hasattr(error, "exit_code"):
            raise
        screen.fail(type(error).__name__, _words(error))
        return FAILED
    return DONE


def _words(error: Exception) -> str:
    if isinstance(error, AdapterHubError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return f"{type(error).__name__}: {error}\n(not foreseen; --debug shows where it comes from)"


@contextmanager
def _calm(debug: bool) -> Iterator[None]:
    """Keep libraries from talking into the output."""
    if debug:
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("torch", "datasets", "huggingface_hub"):
            logging.getLogger(name).setLevel(logging.ERROR)
        yield


@contextmanager
def _calm_with_models(debug: bool) -> Iterator[None]:
    """Keep transformers from talking too, other than to show a download."""
    with _calm(debug):
        if not debug:
            from huggingface_hub.utils import enable_progress_bars
            from transformers.utils import logging as transformers_logging

            transformers_logging.set_verbosity_error()
            transformers_logging.disable_progress_bar()  # that of the hub too
            if sys.stderr.isatty():
                enable_progress_bars()
        yield


@contextmanager
def _terminable() -> Iterator[None]:
    """Take SIGTERM for an interruption."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
