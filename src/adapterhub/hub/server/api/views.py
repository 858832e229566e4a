"""Adapters, as lists and answers of the API show them."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from adapterhub.hub.ids import Coordinate
from adapterhub.hub.server.database import Adapter
from adapterhub.hub.server.git_objects import Entry

Verdict = Literal["incompatible", "shape", "derived", "same-base", "exact"]


class Listing(BaseModel):
    """An adapter in a list; what ``adapterhub.hub.client.catalogue.Listing`` holds."""

    id: str = Field(description="Its repository, owner/name", examples=["ukp/sst-2-roberta"])
    coordinate: str | None = Field(description="Its place in the catalogue", examples=["sentiment/sst-2@ukp"])
    kind: str
    method: str
    format: str
    base: str | None
    task: str | None
    dataset: str | None
    language: str | None
    parameters: int
    size: int = Field(description="Of its files, in bytes")
    score: float | None = Field(description="On its data set, by the metric of that")
    verified: bool = Field(description="Whether somebody else than its owner measured the score")
    downloads: int
    likes: int
    updated: datetime
    summary: str

    @classmethod
    def of(cls, adapter: Adapter) -> "Listing":
        """From its row."""
        return cls(**listing(adapter))


class File(BaseModel):
    """A file of a commit."""

    path: str
    size: int
    sha256: str = Field(description="Of its bytes")
    oid: str = Field(description="The id that git gives to it; of a large file, to the pointer in its place")

    @classmethod
    def all(cls, files: dict[str, Entry]) -> "list[File]":
        """By path."""
        return [cls(path=path, size=one.size, sha256=one.sha256, oid=one.oid) for path, one in sorted(files.items())]


def listing(adapter: Adapter) -> dict[str, Any]:
    """What a list shows of an adapter."""
    repository, task, dataset = adapter.repository, adapter.task, adapter.dataset
    is_language = task is not None and task.kind == "language"
    return {
        "id": repository.full_name,
        "coordinate": coordinate(adapter),
        "kind": adapter.kind,
        "method": adapter.method,
        "format": adapter.format,
        "base": adapter.base.name if adapter.base is not None else None,
        "task": task.slug if task is not None and not is_language else None,
        "dataset": dataset.slug if dataset is not None else None,
        "language": adapter.language or None,
        "parameters": adapter.parameters,
        "size": adapter.size,
        "score": adapter.score,
        "verified": adapter.verified,
        "downloads": repository.downloads,
        "likes": repository.likes,
        "updated": repository.updated,
        "summary": adapter.summary,
    }


def coordinate(adapter: Adapter) -> str | None:
    """The place of an adapter in the catalogue; None if it has none."""
    task, dataset = adapter.task, adapter.dataset
    if task is None:
        return None
    is_language = task.kind == "language"
    return str(
        Coordinate(
            task=None if is_language else task.slug,
            language=task.slug if is_language else None,
            dataset=None if dataset is None else dataset.slug,
            author=adapter.repository.owner.name,
        )
    )
