"""What cards (README.md) say, for clients that ask for it."""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import yaml  # type: ignore[import-untyped]

from adapterhub.hub.server.admission import CARD
from adapterhub.hub.server.git_objects import Entry
from adapterhub.hub.server.hub import Hub

_LONGEST = 256 * 1024


class CardError(ValueError):
    """Why the part between the two lines ``---`` of a card cannot be read."""


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
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(block, yaml.CSafeLoader)):
            raise CardError("aliases of YAML (*name) are not taken: write it out")
        found = _plain(yaml.load(block, yaml.CSafeLoader))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise CardError(f"it is no YAML: {error}") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise CardError("the part between --- has to be a mapping: lines of key: value")
    return found


def _plain(value: Any) -> Any:
    """In the types of JSON alone."""
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(one) for one in value]
    if isinstance(value, bool | int | str) or value is None:
        return value
    return value if isinstance(value, float) and math.isfinite(value) else str(value)
