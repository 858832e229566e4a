"""The hubs that a user asks, in order, and the tokens for them."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from adapterhub.errors import HubError
from adapterhub.files import make_folder, replace

DEFAULT_URL = "http://127.0.0.1:8400"
_FILE = "hubs.json"


@dataclass(frozen=True)
class Address:
    """A hub and what one shows there.

    Attributes:
        url: without a slash at its end.
        token: of the user, or None for a stranger.
    """

    url: str
    token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
            raise HubError(f"{self.url!r} is no address of a hub: write http://HOST:PORT or https://HOST")
        object.__setattr__(self, "url", self.url.rstrip("/"))

    @property
    def slug(self) -> str:
        """The address as a name of a file."""
        return "".join(letter if letter.isalnum() or letter in ".-" else "_" for letter in self.url.split("://")[1])


def home() -> Path:
    """The folder of all that is kept for a user: ``ADAPTERHUB_HOME``, by default ``~/.cache/adapterhub``."""
    return Path(os.environ.get("ADAPTERHUB_HOME") or "~/.cache/adapterhub").expanduser()


def configured() -> list[Address]:
    """The hubs to ask: those of ``ADAPTERHUB_HUBS`` (addresses with commas between), else those logged in to.

    ``ADAPTERHUB_TOKEN`` is the token for the first one.
    """
    known = _stored()
    if given := os.environ.get("ADAPTERHUB_HUBS"):
        listed = [Address(url.strip()) for url in given.split(",") if url.strip()]
        known = [next((one for one in known if one.url == address.url), address) for address in listed]
    if (token := os.environ.get("ADAPTERHUB_TOKEN")) and known:
        known[0] = Address(known[0].url, token)
    return known


def address(url: str | None = None) -> Address:
    """A hub by its address, or the first one that is configured, or the one that runs on this machine."""
    known = configured()
    if url is None:
        return known[0] if known else Address(DEFAULT_URL, os.environ.get("ADAPTERHUB_TOKEN"))
    wanted = Address(url)
    return next((one for one in known if one.url == wanted.url), wanted)


def remember(one: Address) -> None:
    """Keep a hub and its token, before all others, in a file that only the user can read."""
    _store([one, *(other for other in _stored() if other.url != one.url)])


def forget(url: str) -> bool:
    """Forget a hub; whether it was known."""
    known, wanted = _stored(), Address(url).url
    _store([one for one in known if one.url != wanted])
    return any(one.url == wanted for one in known)


def _stored() -> list[Address]:
    path = home() / _FILE
    if not path.exists():
        return []
    try:
        return [Address(one["url"], one.get("token")) for one in json.loads(path.read_text(encoding="utf-8"))["hubs"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise HubError(f"{path} is damaged: delete it, and log in again") from error


def _store(hubs: list[Address]) -> None:
    make_folder(home())
    content = {"hubs": [{"url": one.url, "token": one.token} for one in hubs]}
    replace(home() / _FILE, json.dumps(content, indent=1).encode(), mode=0o600)
