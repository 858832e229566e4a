"""What cards (README.md) say, for clients that ask for it."""

import math
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import yaml  # type: ignore[import-untyped]
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from adapterhub.hub.server.admission import CARD
from adapterhub.hub.server.git_objects import Entry
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.protocol.routing import router

_LONGEST, _DEEPEST = 256 * 1024, 16

_HEADERS = {"X-Error-Message": "the metadata of the card cannot be read"}
_TYPES: tuple[tuple[str, type | tuple[type, ...], str], ...] = (
    ("tags", list, "a list of texts"),
    ("base_model", (str, list), "a text or a list of texts"),
    ("datasets", (str, list), "a text or a list of texts"),
    ("language", (str, list), "a text or a list of texts"),
    ("metrics", (str, list), "a text or a list of texts"),
    ("license", (str, list), "a text or a list of texts"),
    ("library_name", str, "a text"),
    ("pipeline_tag", str, "a text"),
)

routes = router()


class Checked(BaseModel):
    """A card that is to be uploaded."""

    content: str


class CardError(ValueError):
    """Why the part between the two lines ``---`` of a card cannot be read."""


@routes.post("/api/validate-yaml")
def validate(card: Checked) -> Response:
    """What is wrong with a card, which clients ask before they upload it."""
    try:
        data = front_matter(card.content)
    except CardError as error:
        return JSONResponse({"errors": [{"message": str(error)}], "warnings": []}, 400, _HEADERS)
    errors = [{"message": problem} for problem in _problems(data)]
    warnings = [] if data else [{"message": "the card has no metadata between two lines of ---: nobody will find it"}]
    return JSONResponse({"errors": errors, "warnings": warnings}, 400 if errors else 200, _HEADERS if errors else None)


def _problems(data: Mapping[str, Any]) -> Iterator[str]:
    """Values of types that clients choke on."""
    for name, kinds, words in _TYPES:
        value = data.get(name)
        if value is not None and not isinstance(value, kinds):
            yield f'"{name}" has to be {words}'
        if isinstance(value, list) and not all(isinstance(one, str) for one in value):
            yield f'"{name}" has to be {words}, and all in the list texts'


def card_data(hub: Hub, files: Mapping[str, Entry]) -> dict[str, Any] | None:
    """What the card among files says; None without a card, or if it cannot be read."""
    readme = files.get(CARD)
    if readme is None or readme.size > 4 * _LONGEST:
        return None
    with hub.store.open(readme.sha256) as stream:
        text = stream.read().decode("utf-8", "replace")
    try:
        return front_matter(text)
    except CardError:
        return None


def front_matter(text: str) -> dict[str, Any]:
    """The part between the two lines ``---`` at the start, fit for JSON; empty where there is none.

    Raises:
        CardError: if it is no YAML, too long, or refers to parts of itself.
    """
    lines = text.removeprefix("\ufeff").splitlines()
    if not lines or lines[0].rstrip() != "---":
        return {}
    try:
        end = next(number for number, line in enumerate(lines[1:], 1) if line.rstrip() == "---")
    except StopIteration:
        raise CardError("the part that begins with --- has no end: close it by a line of ---") from None
    block = "\n".join(lines[1:end])
    if len(block) > _LONGEST:
        raise CardError(f"the part between --- is longer than {_LONGEST:,} characters")
    return dict(_parsed(block))


@lru_cache(64)
def _parsed(block: str) -> dict[str, Any]:
    try:
        _check_events(block)
        found = _plain(yaml.load(block, yaml.CSafeLoader))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise CardError(f"it is no YAML: {error}") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise CardError("the part between --- has to be a mapping: lines of key: value")
    return found


def _check_events(block: str) -> None:
    """Pass what holds no aliases and is not nested deeply: reading the rest takes time in step with its length."""
    depth = 0
    for event in yaml.parse(block, yaml.CSafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise CardError("aliases of YAML (*name) are not taken: write it out")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise CardError(f"the metadata is nested more than {_DEEPEST} deep")


def _plain(value: Any) -> Any:
    """In the types of JSON alone."""
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(one) for one in value]
    if isinstance(value, bool | int | str) or value is None:
        return value
    return value if isinstance(value, float) and math.isfinite(value) else str(value)
