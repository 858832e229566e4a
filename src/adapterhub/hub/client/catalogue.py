"""What is on a hub: searching, listing, asking about one adapter."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Self

from adapterhub.hub.client import addresses
from adapterhub.hub.client.connection import Connection

_PAGE = 100


@dataclass(frozen=True)
class Listing:
    """An adapter as a list of a hub shows it.

    Attributes:
        id: its repository, ``owner/name``.
        coordinate: ``task/dataset@owner``, or None if it is of no task or language.
        kind: ``adapter``, ``fusion`` or ``composition``.
        method: that of the adapter.
        format: of its files.
        base: the base model that it was made for.
        task, dataset, language: what it is for.
        parameters: how many it has.
        size: of its files, in bytes.
        score: on its data set, by that one's metric.
        verified: whether somebody else than its author measured that score.
        downloads, likes: how often.
        updated: when, in ISO 8601.
        summary: the first words of its card.
    """

    id: str
    coordinate: str | None
    kind: str
    method: str
    format: str
    base: str | None
    task: str | None
    dataset: str | None
    language: str | None
    parameters: int
    size: int
    score: float | None
    verified: bool
    downloads: int
    likes: int
    updated: str
    summary: str

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Self:
        """From the answer of a hub, which may say more."""
        known: dict[str, Any] = {name: answer.get(name) for name in cls.__dataclass_fields__}
        return cls(**known)

    # The names that the library of the name adapters has for these.
    @property
    def adapter_id(self) -> str:
        """``id``."""
        return self.id

    @property
    def model_name(self) -> str | None:
        """``base``."""
        return self.base

    @property
    def subtask(self) -> str | None:
        """``dataset``."""
        return self.dataset

    @property
    def username(self) -> str:
        """Who published it."""
        return self.id.partition("/")[0]


def list_adapters(
    words: str = "",
    *,
    task: str | None = None,
    dataset: str | None = None,
    language: str | None = None,
    model: str | None = None,
    model_name: str | None = None,
    method: str | None = None,
    owner: str | None = None,
    withdrawn: bool = False,
    sort: str | None = None,
    limit: int | None = None,
    hub: str | None = None,
) -> list[Listing]:
    """The adapters of a hub that fit, the best first.

    Args:
        words: to look for, anywhere in names and cards.
        task, dataset, language: what an adapter is for.
        model, model_name: the base model that it has to fit, by name.
        method: that of the adapter.
        owner: the user or organisation that it belongs to.
        withdrawn: list those that were withdrawn, which other lists leave out.
        sort: ``relevance``, ``downloads``, ``likes``, ``updated``, ``score`` or ``size``.
        limit: how many at most; by default all.
        hub: the address of a hub; by default the first one that is configured.

    Raises:
        HubUnreachableError: if the hub does not answer.
        HubError: if it does not understand.
    """
    query = {
        "q": words or None,
        "task": task,
        "dataset": dataset,
        "language": language,
        "base": model or model_name,
        "method": method,
        "owner": owner,
        "withdrawn": withdrawn or None,
        "sort": sort,
    }
    with Connection(addresses.address(hub)) as connection:
        return list(islice(_pages(connection, query, min(limit or _PAGE, _PAGE)), limit))


def get_adapter_info(adapter_id: str, *, model: str | None = None, hub: str | None = None) -> dict[str, Any]:
    """All that a hub knows of an adapter: what it is, its versions, files and scores.

    ``adapter_id`` is its name, ``"sentiment/sst-2@ukp"`` or ``"owner/name"``.

    Raises:
        HubNotFoundError: if there is none.
        AmbiguousAdapterError: if several answer to it equally well.
    """
    with Connection(addresses.address(hub)) as connection:
        question = {"identifier": adapter_id} | ({} if model is None else {"base": model})
        found = connection.post("/api/v1/resolve", question)
        answer: dict[str, Any] = connection.get(f"/api/v1/adapters/{found['repository']}", revision=found["commit"])
        return answer


def _pages(connection: Connection, query: Mapping[str, Any], size: int) -> Iterator[Listing]:
    cursor = None
    while True:
        answer = connection.get("/api/v1/adapters", **query, limit=size, cursor=cursor)
        yield from map(Listing.of, answer["items"])
        if (cursor := answer["next"]) is None:
            return
