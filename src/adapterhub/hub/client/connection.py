"""Requests to a hub, and what its answers mean."""

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import httpx

import adapterhub
from adapterhub.errors import HubUnreachableError
from adapterhub.hub.client.addresses import Address
from adapterhub.hub.client.statuses import error_of

_TIMEOUT = httpx.Timeout(30, connect=5)


class Connection:
    """Requests to one hub; the token goes to no other, and no redirection is followed to one."""

    def __init__(self, address: Address) -> None:
        self.address = address
        headers = {"User-Agent": f"adapterhub/{adapterhub.__version__}"}
        if address.token:
            headers["Authorization"] = f"Bearer {address.token}"
        self._client = httpx.Client(base_url=address.url, headers=headers, timeout=_TIMEOUT, verify=_certificates())

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *raised: object) -> None:
        self._client.close()

    def get(self, path: str, **query: Any) -> Any:
        """What the API says.

        Raises:
            HubUnreachableError: if nothing does.
            HubError: of a kind that fits, with what the hub said.
        """
        return self._json("GET", path, params=_query(query))

    def post(self, path: str, content: Any, **query: Any) -> Any:
        """What the API says to a document."""
        return self._json("POST", path, json=content, params=_query(query))

    @contextmanager
    def stream(self, path: str, start: int = 0) -> Iterator[httpx.Response]:
        """The bytes of a file from a place on; where the hub keeps them elsewhere, from there, without the token."""
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        with self._reaching(), self._client.stream("GET", path, headers=headers) as answer:
            if answer.status_code in (301, 302, 303, 307, 308):
                place = answer.headers["Location"]
                with httpx.stream("GET", place, headers=headers, timeout=_TIMEOUT, verify=_certificates()) as there:
                    yield self._good(there)
            else:
                yield self._good(answer)

    def _json(self, method: str, path: str, **options: Any) -> Any:
        with self._reaching():
            answer = self._good(self._client.request(method, path, **options))
            return answer.json() if answer.content else None

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPError as error:
            raise HubUnreachableError(f"{self.address.url} does not answer: {error or type(error).__name__}") from error

    def _good(self, answer: httpx.Response) -> httpx.Response:
        if answer.status_code < 300:
            return answer
        answer.read()
        kind = error_of(answer.status_code)
        raise kind(_said(answer) or f"{self.address.url} answered {answer.status_code} to {answer.request.url}")


@cache
def _certificates() -> ssl.SSLContext:
    """Whom to believe over TLS; to read it takes longer than a request."""
    return httpx.create_ssl_context()


def _said(answer: httpx.Response) -> str:
    try:
        content = answer.json()
    except ValueError:
        return ""
    return str(content.get("detail") or content.get("error") or "") if isinstance(content, dict) else ""


def _query(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}
