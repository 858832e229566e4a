"""Who one is on a hub."""

from typing import Any

from adapterhub.errors import HubError
from adapterhub.hub.client import addresses
from adapterhub.hub.client.addresses import Address
from adapterhub.hub.client.connection import Connection


def login(token: str, url: str | None = None) -> dict[str, Any]:
    """Keep a token for a hub, which is asked for adapters before all others from then on.

    Args:
        token: of the user there.
        url: the address of the hub; by default the first one that is known, or the one that runs on this machine.

    Returns the name of the user, the scope of the token, and the hub.

    Raises:
        HubAccessError: if the hub does not know the token.
        HubUnreachableError: if it does not answer.
    """
    address = Address(url or addresses.address().url, token.strip())
    with Connection(address) as connection:
        me: dict[str, Any] = connection.get("/api/v1/me")
    addresses.remember(address)
    return {"hub": address.url} | me


def logout(url: str | None = None) -> str:
    """Forget a hub, by default the first one that is known; returns its address.

    Raises:
        HubError: if it is not known.
    """
    wanted = addresses.address(url).url
    if not addresses.forget(wanted):
        raise HubError(f"you are not logged in to {wanted}")
    return wanted
