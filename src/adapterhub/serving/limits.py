"""Who may ask, and how often."""

import hashlib
import hmac
import time
from collections import Counter

from starlette.requests import HTTPConnection
from starlette.types import Scope

from adapterhub.http.headers import bearer
from adapterhub.http.limits import MINUTE, Allowance, network
from adapterhub.serving.errors import NoTokenError
from adapterhub.serving.settings import Settings


class Limiter:
    """Counts the requests of tokens and addresses in this minute."""

    def __init__(self, settings: Settings) -> None:
        self._limit, self._tokens = settings.requests_per_minute, Tokens(settings)
        self._minute, self._counts = 0, Counter[str]()

    async def count(self, scope: Scope) -> Allowance:
        """One request more; what whoever made it has left."""
        minute, second = divmod(int(time.time()), MINUTE)
        if minute != self._minute:
            self._minute, self._counts = minute, Counter()
        who = self._tokens.known(HTTPConnection(scope)) or network((scope.get("client") or ("",))[0])
        left = self._limit - self._counts[who] - 1
        self._counts[who] += left >= 0
        return Allowance("requests", self._limit, left, MINUTE - second)


class Tokens:
    """Who may ask."""

    def __init__(self, settings: Settings) -> None:
        self._digests = [_digest(one.get_secret_value()) for one in settings.tokens]

    def known(self, connection: HTTPConnection) -> str | None:
        """What stands for the token of a request, if that is a good one."""
        given = _digest(bearer(connection) or "")
        return next((one.hex() for one in self._digests if hmac.compare_digest(one, given)), None)

    def check(self, connection: HTTPConnection) -> None:
        """Pass a request with a token, or any if there are none.

        Raises:
            NoTokenError: for any other.
        """
        if self._digests and self.known(connection) is None:
            raise NoTokenError("this server answers to whoever shows a token of it (Authorization: Bearer ...)")


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
