"""What a browser posts: only by a form that this site has shown to it."""

import hmac
from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

from fastapi import Depends
from starlette.requests import Request

from adapterhub.errors import HubAccessError, HubError
from adapterhub.hub.server.context import public_url
from adapterhub.hub.server.errors import TooLargeError
from adapterhub.hub.server.web.visitor import TheVisitor, Visitor

_BYTES, _FIELDS = 1 << 20, 200
WORD = "csrf"


class Fields:
    """The fields of a form as text; a field that is not there is empty."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self.pairs = pairs

    def __getitem__(self, name: str) -> str:
        return next((value for key, value in self.pairs if key == name), "").strip()

    def exact(self, name: str) -> str:
        """The text as it was typed, spaces at its ends included: a password."""
        return next((value for key, value in self.pairs if key == name), "")

    def all(self, name: str) -> list[str]:
        """Every value of a field that may be there several times."""
        return [value for key, value in self.pairs if key == name]


async def _read(request: Request) -> Fields:
    """The fields of a form without files.

    Raises:
        TooLargeError: for more than a form can hold.
        HubError: for what is no form.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise HubError("this address takes the fields of a form (application/x-www-form-urlencoded)")
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _BYTES:
            raise TooLargeError(f"a form may hold {_BYTES:,} bytes")
    try:
        return Fields(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_FIELDS))
    except ValueError as error:
        raise HubError(f"this form cannot be read: {error}") from error


def checked(request: Request, visitor: TheVisitor, fields: Annotated[Fields, Depends(_read)]) -> Fields:
    """The fields of a form that was shown to the one who posts it.

    Raises:
        HubAccessError: if another site made the browser post it.
    """
    check(request, visitor, fields.exact(WORD))
    return fields


def check(request: Request, visitor: Visitor, word: str) -> None:
    """Pass a request that comes from a page of this site, and not by the will of another site.

    Raises:
        HubAccessError: else.
    """
    origin = request.headers.get("origin")
    if origin is not None:
        ours = origin == _origin(public_url(request)) or urlsplit(origin).netloc == request.headers.get("host")
    else:
        ours = request.headers.get("sec-fetch-site", "none") in ("same-origin", "none")
    if not ours:
        raise HubAccessError("this form was sent by another site: open the page here, and send it again")
    if not hmac.compare_digest(word.encode(), visitor.csrf.encode()):
        raise HubAccessError("this form is out of date: open the page again, and send it from there")


def whole(text: str) -> int:
    """A number that a form brings along for a row; 0, which is that of none, for what is no such number."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def local(address: str, otherwise: str = "/") -> str:
    """An address to go on to, if it is a path of this site; ``otherwise`` if it leads elsewhere."""
    parts = urlsplit(address)
    plain = address.startswith("/") and not address.startswith("//") and address.isprintable() and "\\" not in address
    return address if plain and not parts.scheme and not parts.netloc else otherwise


def _origin(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"


Form = Annotated[Fields, Depends(checked)]
