"""Adapters as lists show them."""

from dataclasses import dataclass
from datetime import datetime

from adapterhub.hub.server.database import Adapter, Dataset, Repository, Task
from adapterhub.hub.server.web import wording
from adapterhub.hub.server.web.rendering import segment


@dataclass(frozen=True)
class Item:
    """One adapter in a list; texts that are not known are empty."""

    owner: str
    name: str
    private: bool
    withdrawn: bool
    summary: str
    method: str
    base: str
    topic: str
    topic_path: str
    parameters: int
    score: float | None
    metric: str
    verified: bool
    downloads: int
    likes: int
    updated: datetime

    @property
    def path(self) -> str:
        """The address of its page."""
        return f"/{segment(self.owner)}/{segment(self.name)}"


def item(adapter: Adapter) -> Item:
    """An adapter of the catalogue."""
    repository = adapter.repository
    return Item(
        repository.owner.name,
        repository.name,
        repository.private,
        repository.withdrawn is not None,
        wording.plain(adapter.summary),
        adapter.method,
        adapter.base.name if adapter.base is not None else "",
        topic(adapter.task, adapter.dataset),
        explore_path(adapter.task, adapter.dataset),
        adapter.parameters,
        adapter.score,
        adapter.dataset.metric if adapter.dataset is not None else "",
        adapter.verified,
        repository.downloads,
        repository.likes,
        repository.updated,
    )


def bare(repository: Repository) -> Item:
    """A repository in which there is no adapter yet."""
    return Item(
        repository.owner.name,
        repository.name,
        repository.private,
        repository.withdrawn is not None,
        "No adapter in it yet.",
        "",
        "",
        "",
        "",
        0,
        None,
        "",
        False,
        repository.downloads,
        repository.likes,
        repository.updated,
    )


def topic(task: Task | None, dataset: Dataset | None) -> str:
    """What an adapter is for, as a person reads it."""
    return " / ".join(one.title for one in (task, dataset) if one is not None)


def explore_path(task: Task | None, dataset: Dataset | None = None) -> str:
    """The page of a task, of a language, or of a data set of either."""
    if task is None:
        return ""
    path = f"/explore/{'languages' if task.kind == 'language' else 'tasks'}/{segment(task.slug)}"
    return path if dataset is None else f"{path}/{segment(dataset.slug)}"
