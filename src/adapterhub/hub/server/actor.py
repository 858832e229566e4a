"""Who makes a request."""

from dataclasses import dataclass
from typing import Literal

Scope = Literal["read", "write", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "write", "admin")


@dataclass(frozen=True)
class Actor:
    """An account as far as a token or a session lets it act; without an ``id`` it is a stranger.

    Attributes:
        id: of the account.
        name: of the account.
        scope: what the token is for; a session on the web site has ``admin``.
        is_admin: whether the account administers the server, and the scope lets it.
    """

    id: int | None = None
    name: str = ""
    scope: Scope = "read"
    is_admin: bool = False

    def has(self, scope: Scope) -> bool:
        """Whether it is somebody with that scope, or one above."""
        return self.id is not None and SCOPES.index(self.scope) >= SCOPES.index(scope)


STRANGER = Actor()
# Whoever gives commands on the machine of the server, and the server itself.
SERVER = Actor(None, "server", "admin", is_admin=True)
