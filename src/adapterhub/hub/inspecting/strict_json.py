"""JSON of strangers: with one meaning, of a bounded size, and nothing that another parser would read otherwise."""

import json
import math
import re
from typing import Any

from adapterhub.errors import UploadRefusedError

DEPTH = 32
VALUES = 200_000  # braces, brackets and commas, each of which can stand for one
NO_TEXT = re.compile("[\0\ud800-\udfff]")  # NUL, and halves of characters: neither can be stored as text
_WHOLE = 2**63


def parse(data: bytes, where: str, depth: int = DEPTH) -> Any:
    """The value that ``data`` stands for: UTF-8, no key twice in an object, no NaN, no number that is out of range.

    Raises:
        UploadRefusedError: for anything else, naming ``where`` it is.
    """
    if sum(data.count(mark) for mark in b"{[,") > VALUES:
        raise UploadRefusedError(f"{where} holds more than {VALUES:,} values. Leave out what is no configuration.")
    try:
        value = json.loads(data.decode(), object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise UploadRefusedError(f"{where} is not JSON: {error}. Write it again, as UTF-8.") from error
    _check(value, where, depth)
    return value


def parse_object(data: bytes, where: str, depth: int = DEPTH) -> dict[str, Any]:
    """As ``parse``, for an object.

    Raises:
        UploadRefusedError: as ``parse``, and for another value.
    """
    value = parse(data, where, depth)
    if not isinstance(value, dict):
        raise UploadRefusedError(f"{where} must hold a JSON object, and holds a {type(value).__name__}")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the key {name[:80]!r} stands twice in one object")
        found[name] = value
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _check(value: Any, where: str, depth: int) -> None:
    """Pass a value of no more than ``depth`` levels whose texts and numbers can be stored."""
    level = [value]
    for _ in range(depth):
        below: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                below += one.keys()
                below += one.values()
            elif isinstance(one, list):
                below += one
            elif problem := _problem(one):
                raise UploadRefusedError(f"{where} holds {problem}")
        if not below:
            return
        level = below
    raise UploadRefusedError(f"{where} is nested more than {depth} levels deep")


def _problem(value: Any) -> str | None:
    if isinstance(value, str):
        if NO_TEXT.search(value):
            return "a text with a character that is none (NUL, or half of one)"
    elif isinstance(value, float) and not math.isfinite(value):
        return "a number that is too large"
    elif isinstance(value, int) and not -_WHOLE <= value < _WHOLE:
        return "a whole number of more than 64 bits"
    return None
