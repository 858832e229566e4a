"""The lines of a commit, of which the bytes of files are drawn out while they come in.

A line is a JSON object ``{"key": ..., "value": {...}}``. That of a file has its bytes in one string of base64 named
``content``, of any length; all else in a line is short.
"""

import binascii
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from adapterhub.errors import HubError

_SHORT = 1 << 16
_PIECE = 1 << 18
# A quote inside of a JSON string has a backslash before it, so this is found nowhere but where a string begins.
_CONTENT = re.compile(rb'"content"\s*:\s*"')


@dataclass(frozen=True)
class Line:
    """A line of a commit.

    Attributes:
        key: what it is.
        value: all that is said of it but the ``content``.
        taken: what was answered for the bytes of the ``content``, if there is one.
    """

    key: str
    value: dict[str, Any]
    taken: str | None


def lines(pieces: Iterator[bytes], take: Callable[[Iterator[bytes]], str]) -> Iterator[Line]:
    """Each line; the bytes of a ``content`` go to ``take``.

    Raises:
        HubError: for what is no such line, or base64, and for a line that is too long without its ``content``.
    """
    source = _Source(pieces)
    number = 0
    while not source.ended():
        number += 1
        text, taken = _line(source, take, number)
        if not text.strip():
            continue
        try:
            found = json.loads(text)
            key, value = found["key"], found["value"]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise HubError(f'line {number} of the commit is not {{"key": ..., "value": {{...}}}}') from error
        if not isinstance(key, str) or not isinstance(value, dict):
            raise HubError(f"line {number} of the commit has a key that is no string, or a value that is no object")
        yield Line(key, value, taken)


def _line(source: "_Source", take: Callable[[Iterator[bytes]], str], number: int) -> tuple[bytes, str | None]:
    """A line with an empty ``content``, and what ``take`` answered if there was one."""
    start = source.peek(_SHORT).partition(b"\n")[0]
    content = _CONTENT.search(start)
    if content is None:
        return source.line(number), None
    head = source.read(content.end())
    answer = take(_decoded(source, number))
    if not source.drop(b'"'):
        raise HubError(f"the content in line {number} of the commit has no end")
    return head + b'"' + source.line(number), answer


def _decoded(source: "_Source", number: int) -> Iterator[bytes]:
    left, padded = b"", False
    while True:
        piece, last = source.until_quote()
        text = left + piece
        whole = len(text) if last else len(text) // 4 * 4 - 4  # a quantum is kept back: the padding comes last
        whole = max(whole, 0)
        try:
            yield binascii.a2b_base64(text[:whole], strict_mode=True)
        except binascii.Error as error:
            raise HubError(f"the content in line {number} of the commit is no base64: {error}") from error
        left = text[whole:]
        padded = padded or b"=" in text[:whole]
        if last:
            return
        if padded:
            raise HubError(f"the content in line {number} of the commit goes on after its end")


class _Source:
    """Bytes that are read in other pieces than they come in."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._held = pieces, bytearray()

    def peek(self, size: int) -> bytes:
        """The next bytes, up to ``size`` or a line; they are not taken."""
        while len(self._held) < size and b"\n" not in self._held and (piece := next(self._pieces, b"")):
            self._held += piece
        return bytes(self._held[:size])

    def ended(self) -> bool:
        """Whether nothing is left."""
        return not self.peek(1)

    def read(self, size: int) -> bytes:
        """The next bytes, which have been seen."""
        made = bytes(self._held[:size])
        del self._held[:size]
        return made

    def line(self, number: int) -> bytes:
        """The rest of a line, which has to be short."""
        made, end, _ = self.peek(_SHORT).partition(b"\n")
        if not end and len(made) == _SHORT:
            raise HubError(f"line {number} of the commit is longer than {_SHORT:,} bytes without its content")
        return self.read(len(made) + len(end))[: len(made)]

    def until_quote(self) -> tuple[bytes, bool]:
        """The next bytes before a quote, and whether they end at one (or with all)."""
        if not self._held:
            self._held += next(self._pieces, b"")
        place = self._held.find(b'"', 0, _PIECE)
        if place >= 0:
            return self.read(place), True
        return self.read(_PIECE), self.ended()

    def drop(self, expected: bytes) -> bool:
        """Take bytes if they are the next ones."""
        if self.peek(len(expected)) != expected:
            return False
        self.read(len(expected))
        return True
