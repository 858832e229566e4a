"""What cards (README.md) say, for clients that ask for it."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from adapterhub.errors import UploadRefusedError
from adapterhub.hub.front_matter import split
from adapterhub.hub.server.admission import CARD
from adapterhub.hub.server.git_objects import Entry
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.protocol.routing import router

_LONGEST = 1024 * 1024
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


@routes.post("/api/validate-yaml")
def validate(card: Checked) -> Response:
    """What is wrong with a card, which clients ask before they upload it."""
    try:
        data = front_matter(card.content)
    except UploadRefusedError as error:
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
    if readme is None or readme.size > _LONGEST:
        return None
    with hub.store.open(readme.sha256) as stream:
        text = stream.read().decode("utf-8", "replace")
    try:
        return dict(front_matter(text))
    except UploadRefusedError:
        return None


@lru_cache(64)
def front_matter(text: str) -> Mapping[str, Any]:
    """The part between the two lines ``---`` at the start, fit for JSON; empty where there is none.

    Raises:
        UploadRefusedError: if it is no YAML, too long, or refers to parts of itself.
    """
    return split(text, CARD)[0]
