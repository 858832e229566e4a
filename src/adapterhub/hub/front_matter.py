"""The front matter of a Markdown file: YAML of strangers, read as data alone, and written.

Scalars mean what they mean in YAML 1.2 (``no`` is a text, as the code of Norwegian has to be), no key stands twice, and
there are no aliases and no tags. What is read can be written as JSON.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import yaml

from adapterhub.errors import UploadRefusedError
from adapterhub.hub.inspecting.strict_json import NO_TEXT

SIZE = 256 * 1024
DEPTH = 16
VALUES = 20_000
_MARK, _BOM = "---", "\ufeff"
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_WHOLE = re.compile(r"[-+]?[0-9]{1,18}")
_REAL = re.compile(r"[-+]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][-+]?[0-9]{1,3})?")
_WORDS: dict[str, bool | None] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_WORDS |= {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_TEXT = ("!", "tag:yaml.org,2002:str")


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Writes everything out, also what stands twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def split(text: str, where: str) -> tuple[dict[str, Any], str]:
    """The front matter of a file, empty where there is none, and its body.

    Raises:
        UploadRefusedError: if the front matter is not closed, too large, or not YAML of the kind that is read.
    """
    if NO_TEXT.search(text):
        raise UploadRefusedError(f"{where} holds a character that is none (NUL, or half of one), and is no text")
    whole = text.removeprefix(_BOM).replace("\r\n", "\n").replace("\r", "\n")
    if not _is_mark(whole):
        return {}, whole.lstrip("\n")
    lines = whole.split("\n")
    end = next((number for number, line in enumerate(lines[1:], 1) if _is_mark(line)), None)
    if end is None:
        raise UploadRefusedError(
            f"{where} begins with ---, and no second line is ---: close the front matter, or take out the first line"
        )
    return parse("".join(f"{line}\n" for line in lines[1:end]), where), "\n".join(lines[end + 1 :]).lstrip("\n")


def parse(text: str, where: str) -> dict[str, Any]:
    """The mapping that YAML stands for.

    Raises:
        UploadRefusedError: for anything else, aliases, tags, keys that stand twice, or too much of it.
    """
    if len(text.encode(errors="replace")) > SIZE:
        raise UploadRefusedError(f"{where}: the front matter is larger than {SIZE:,} bytes: move text to the body")
    try:
        value = _Builder(where).build(text)
    except (yaml.YAMLError, UnicodeEncodeError) as error:
        problem = " ".join(str(error).split())
        raise UploadRefusedError(f"{where}: the front matter is not YAML: {problem[:300]}. Correct it.") from error
    if not isinstance(value, dict | None):
        raise UploadRefusedError(f"{where}: the front matter must be keys with values, such as 'license: mit'")
    return value or {}


def write(values: Mapping[str, Any], body: str) -> str:
    """A file with this front matter, and this body, that ``split`` reads back."""
    if not values and not _is_mark(body) and not body.startswith(_BOM):
        return body
    text = yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000) if values else ""
    return f"{_MARK}\n{text}{_MARK}\n" + (f"\n{body}" if body else "")


def _meaning(text: str) -> Any:
    """What a plain scalar stands for in YAML 1.2."""
    if text in _WORDS:
        return _WORDS[text]
    if _WHOLE.fullmatch(text):
        return int(text)
    if _REAL.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    return text


def _quoted(dumper: Any, text: str) -> Any:
    """A text, in quotes where it would mean something else without."""
    return dumper.represent_scalar(_TEXT[1], text, style=None if isinstance(_meaning(text), str) else "'")


def _is_mark(text: str) -> bool:
    """Whether the first line is that which stands around front matter."""
    return text.partition("\n")[0].rstrip() == _MARK


_Dumper.add_representer(str, _quoted)


class _Builder:
    """Makes values of the events of a parser, without any of the constructors of YAML."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.stack: list[list[Any]] = []
        self.kinds: list[bool] = []  # whether each is a mapping
        self.root: list[Any] = []

    def build(self, text: str) -> Any:
        """The value of the one document in ``text``, or None."""
        for count, event in enumerate(yaml.parse(text, Loader=_LOADER)):
            if count > VALUES:
                self._refuse(event, f"more than {VALUES:,} values")
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
                self._refuse(event, "an anchor or an alias; write it out")
            if isinstance(event, yaml.ScalarEvent):
                self._add(event, self._scalar(event))
            elif isinstance(event, yaml.CollectionStartEvent):
                self._open(event)
            elif isinstance(event, yaml.CollectionEndEvent):
                self._close(event)
        if len(self.root) > 1:
            raise UploadRefusedError(f"{self.where}: the front matter holds several documents: make it one")
        return self.root[0] if self.root else None

    def _open(self, event: Any) -> None:
        if event.tag is not None:
            self._refuse(event, f"the tag {event.tag!r}; take it out")
        if len(self.stack) >= DEPTH:
            self._refuse(event, f"more than {DEPTH} levels")
        self.stack.append([])
        self.kinds.append(isinstance(event, yaml.MappingStartEvent))

    def _close(self, event: Any) -> None:
        items = self.stack.pop()
        self._add(event, self._mapping(event, items) if self.kinds.pop() else items)

    def _mapping(self, event: Any, items: list[Any]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key, value in zip(items[::2], items[1::2], strict=True):
            if isinstance(key, dict | list):
                self._refuse(event, "a list or a mapping as a key")
            name = key if isinstance(key, str) else str(key)
            if name in made:
                self._refuse(event, f"the key {name[:80]!r} twice")
            made[name] = value
        return made

    def _add(self, event: Any, value: Any) -> None:
        (self.stack[-1] if self.stack else self.root).append(value)

    def _scalar(self, event: Any) -> Any:
        text: str = event.value
        if event.tag is not None and event.tag not in _TEXT:
            self._refuse(event, f"the tag {event.tag!r}; take it out")
        return text if event.tag is not None or not event.implicit[0] else _meaning(text)

    def _refuse(self, event: Any, what: str) -> None:
        line = event.start_mark.line + 2  # the first line is the one with ---
        raise UploadRefusedError(f"{self.where}, line {line}: the front matter holds {what}.")
