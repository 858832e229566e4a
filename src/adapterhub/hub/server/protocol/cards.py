"""What cards (README.md) say, for clients that ask for it, and what is wrong with them."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from adapterhub.errors import UploadRefusedError
from adapterhub.hub.card import Card
from adapterhub.hub.server.admission import CARD
from adapterhub.hub.server.git_objects import Entry
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.protocol.routing import router

_HEADERS = {"X-Error-Message": "the metadata of the card cannot be read"}
_EMPTY = "there is no metadata between two lines of ---: by task, base model and licence nobody will find the adapter"

routes = router()


class Checked(BaseModel):
    """A card that is to be uploaded."""

    content: str


@routes.post("/api/validate-yaml")
def validate(card: Checked) -> Response:
    """What is wrong with a card, which clients ask before they upload it."""
    try:
        found = Card.parse(card.content).front_matter()
    except UploadRefusedError as error:
        return JSONResponse({"errors": [{"message": str(error)}], "warnings": []}, 400, _HEADERS)
    return JSONResponse({"errors": [], "warnings": [] if found else [{"message": _EMPTY}]})


def card_data(hub: Hub, files: Mapping[str, Entry]) -> dict[str, Any] | None:
    """What the card among files says; None without a card, or if it cannot be read."""
    if (readme := files.get(CARD)) is None:
        return None
    with hub.store.open(readme.sha256) as stream:
        text = stream.read()
    try:
        return Card.parse(text).front_matter()
    except UploadRefusedError:
        return None
