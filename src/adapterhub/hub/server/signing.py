"""What the hub signs, for those who come back with it: good for one purpose, and for a time."""

from hashlib import sha256
from typing import Any

from itsdangerous import BadData, URLSafeTimedSerializer

from adapterhub.errors import HubAccessError
from adapterhub.hub.server.hub import Hub


def sign(hub: Hub, purpose: str, content: dict[str, Any]) -> str:
    """A text for an address or a header that says ``content``, which everybody can read and nobody can change."""
    return _signer(hub, purpose).dumps(content)


def signed(hub: Hub, purpose: str, text: str, seconds: int) -> dict[str, Any]:
    """What was signed for this purpose in the last ``seconds``.

    Raises:
        HubAccessError: if it was not: it is forged, for something else, or too old.
    """
    try:
        content: dict[str, Any] = _signer(hub, purpose).loads(text, max_age=seconds)
    except BadData as error:
        raise HubAccessError(f"this {purpose} is not valid, or not any more: ask for a new one") from error
    return content


def _signer(hub: Hub, purpose: str) -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(hub.key, salt=f"adapterhub {purpose}", signer_kwargs={"digest_method": sha256})
