"""Clients of a server, one that waits for its answers and one for asyncio."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar
from urllib.parse import quote

import httpx

from adapterhub.errors import ServingError

DEFAULT_URL = "http://127.0.0.1:8500"
Text = str | Mapping[str, str]
Setup = str | Mapping[str, Any] | None
Answer = dict[str, Any]
_T = TypeVar("_T")
_BUSY = 429


@dataclass(frozen=True)
class _Call(Generic[_T]):
    """One request, and what is read from its answer."""

    method: str
    path: str
    body: Mapping[str, Any] | None
    read: Callable[[Any], _T]


def _predict(inputs: Text | Sequence[Text], adapter: Setup, options: Mapping[str, Any]) -> _Call[list[Answer]]:
    body = {"inputs": inputs, "adapter": adapter, **options}
    return _Call("POST", "/v1/predict", body, lambda found: list(found["results"][0]["outputs"]))


def _compare(
    inputs: Text | Sequence[Text], adapters: Sequence[Setup], options: Mapping[str, Any]
) -> _Call[list[Answer]]:
    body = {"inputs": inputs, "adapters": list(adapters), **options}
    return _Call("POST", "/v1/predict", body, lambda found: list(found["results"]))


def _embed(texts: str | Sequence[str], adapter: str) -> _Call[list[list[float]]]:
    body = {"input": texts if isinstance(texts, str) else list(texts), "model": adapter}
    return _Call("POST", "/v1/embeddings", body, lambda found: [one["embedding"] for one in found["data"]])


def _adapters() -> _Call[list[Answer]]:
    return _Call("GET", "/v1/adapters", None, lambda found: list(found["adapters"]))


def _load(name: str, pinned: bool) -> _Call[Answer]:
    return _Call("POST", "/v1/adapters", {"name": name, "pinned": pinned}, dict)


def _unload(name: str) -> _Call[Answer]:
    return _Call("DELETE", f"/v1/adapters/{quote(name)}", None, dict)


def _pin(name: str, pinned: bool) -> _Call[Answer]:
    return _Call("PATCH", f"/v1/adapters/{quote(name)}", {"pinned": pinned}, dict)


class _Connected:
    """What both clients have in common.

    Args:
        url: the address of the server.
        token: for one that wants one.
        timeout: seconds until an answer is given up.
        patience: seconds for which a server that is too busy is asked again, when it says so; 0 for not at all.
    """

    def __init__(
        self, url: str = DEFAULT_URL, token: str | None = None, timeout: float = 60.0, patience: float = 30.0
    ) -> None:
        self._url, self._patience = url.rstrip("/"), patience
        self._options: dict[str, Any] = {
            "base_url": self._url,
            "timeout": timeout,
            "headers": {"Authorization": f"Bearer {token}"} if token else {},
        }

    def _pause(self, answer: httpx.Response, until: float) -> float | None:
        """Seconds after which to ask again; None where the answer is to be taken as it is."""
        if answer.status_code != _BUSY:
            return None
        wait = float(answer.headers.get("Retry-After", "1"))
        return wait if time.monotonic() + wait <= until else None

    def _read(self, call: _Call[_T], answer: httpx.Response) -> _T:
        try:
            content = answer.json()
        except ValueError:
            content = {}
        if answer.is_success:
            return call.read(content)
        error = ServingError(content.get("detail") or f"{self._url} answered {answer.status_code} to {call.path}")
        error.status = answer.status_code
        raise error

    def _unreachable(self, error: httpx.HTTPError) -> ServingError:
        return ServingError(f"{self._url} does not answer: {error or type(error).__name__}")


class Client(_Connected):
    """A client of a server; use it in a ``with`` block, or close it.

    Every method raises ``ServingError``, with the status of HTTP, for what the server refuses or does not answer.
    """

    def __init__(
        self, url: str = DEFAULT_URL, token: str | None = None, timeout: float = 60.0, patience: float = 30.0
    ) -> None:
        super().__init__(url, token, timeout, patience)
        self._client = httpx.Client(**self._options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def predict(self, inputs: Text | Sequence[Text], adapter: Setup = None, **options: Any) -> list[Answer]:
        """The answers of an adapter to texts, in order.

        Args:
            inputs: texts, pairs (``{"text": ..., "text_pair": ...}``), or ``{"question": ..., "context": ...}``.
            adapter: a name, ``{"stack": [...]}``, ``{"average": [...]}``, or None for the base model.
            **options: ``head``, ``top_k`` and ``timeout`` of the API.
        """
        return self._do(_predict(inputs, adapter, options))

    def compare(self, inputs: Text | Sequence[Text], adapters: Sequence[Setup], **options: Any) -> list[Answer]:
        """The results of several adapters for the same texts, in order; each has its ``outputs``."""
        return self._do(_compare(inputs, adapters, options))

    def embed(self, texts: str | Sequence[str], adapter: str = "") -> list[list[float]]:
        """A vector for each text, by an adapter or the base model."""
        return self._do(_embed(texts, adapter))

    def adapters(self) -> list[Answer]:
        """The adapters of the server."""
        return self._do(_adapters())

    def load(self, name: str, pinned: bool = False) -> Answer:
        """Load the newest version of an adapter, and keep it if ``pinned``."""
        return self._do(_load(name, pinned))

    def unload(self, name: str) -> Answer:
        """Take an adapter out of the model."""
        return self._do(_unload(name))

    def pin(self, name: str, pinned: bool = True) -> Answer:
        """Keep an adapter in the model, or no longer."""
        return self._do(_pin(name, pinned))

    def _do(self, call: _Call[_T]) -> _T:
        until = time.monotonic() + self._patience
        while True:
            try:
                answer = self._client.request(call.method, call.path, json=call.body)
            except httpx.HTTPError as error:
                raise self._unreachable(error) from error
            wait = self._pause(answer, until)
            if wait is None:
                return self._read(call, answer)
            time.sleep(wait)


class AsyncClient(_Connected):
    """A client for asyncio; use it in an ``async with`` block, or close it. Methods are as of ``Client``."""

    def __init__(
        self, url: str = DEFAULT_URL, token: str | None = None, timeout: float = 60.0, patience: float = 30.0
    ) -> None:
        super().__init__(url, token, timeout, patience)
        self._client = httpx.AsyncClient(**self._options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def predict(self, inputs: Text | Sequence[Text], adapter: Setup = None, **options: Any) -> list[Answer]:
        """The answers of an adapter to texts, in order."""
        return await self._do(_predict(inputs, adapter, options))

    async def compare(self, inputs: Text | Sequence[Text], adapters: Sequence[Setup], **options: Any) -> list[Answer]:
        """The results of several adapters for the same texts, in order."""
        return await self._do(_compare(inputs, adapters, options))

    async def embed(self, texts: str | Sequence[str], adapter: str = "") -> list[list[float]]:
        """A vector for each text."""
        return await self._do(_embed(texts, adapter))

    async def adapters(self) -> list[Answer]:
        """The adapters of the server."""
        return await self._do(_adapters())

    async def load(self, name: str, pinned: bool = False) -> Answer:
        """Load the newest version of an adapter, and keep it if ``pinned``."""
        return await self._do(_load(name, pinned))

    async def unload(self, name: str) -> Answer:
        """Take an adapter out of the model."""
        return await self._do(_unload(name))

    async def pin(self, name: str, pinned: bool = True) -> Answer:
        """Keep an adapter in the model, or no longer."""
        return await self._do(_pin(name, pinned))

    async def _do(self, call: _Call[_T]) -> _T:
        until = time.monotonic() + self._patience
        while True:
            try:
                answer = await self._client.request(call.method, call.path, json=call.body)
            except httpx.HTTPError as error:
                raise self._unreachable(error) from error
            wait = self._pause(answer, until)
            if wait is None:
                return self._read(call, answer)
            await asyncio.sleep(wait)
