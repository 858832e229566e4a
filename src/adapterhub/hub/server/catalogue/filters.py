"""What a search, the counts beside it and the tree are narrowed by."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, and_, false, or_, select, true
from sqlalchemy.orm import Session

from adapterhub.hub.bases import canonical
from adapterhub.hub.server.catalogue import taxonomy
from adapterhub.hub.server.database import Account, Adapter, AdapterTag, BaseModel, Dataset, Repository, Task


@dataclass(frozen=True)
class Filters:
    """What adapters have to be; of several values of one kind any will do, of several kinds all have to be met.

    Attributes:
        task: names of tasks or languages, as in identifiers.
        dataset: ``task/dataset``, or names of data sets alone; parts of them count.
        language: codes of languages.
        base: names of base models.
        method, format, kind, license, head: as in the columns of ``Adapter``.
        verified: whether there is a verified score.
        owner: names of accounts.
        tag: tags, all of which it has to have.
        min_size, max_size: of the files, in bytes.
        bases: ids of rows of base models, as ``compatible.fitting`` gives them.
    """

    task: tuple[str, ...] = ()
    dataset: tuple[str, ...] = ()
    language: tuple[str, ...] = ()
    base: tuple[str, ...] = ()
    method: tuple[str, ...] = ()
    format: tuple[str, ...] = ()
    kind: tuple[str, ...] = ()
    license: tuple[str, ...] = ()
    head: tuple[str, ...] = ()
    verified: bool | None = None
    owner: tuple[str, ...] = ()
    tag: tuple[str, ...] = ()
    min_size: int | None = None
    max_size: int | None = None
    bases: frozenset[int] | None = None

    def without(self, name: str) -> "Filters":
        """The others."""
        nothing: Any = None if name in ("verified", "bases") else ()
        return replace(self, **{name: nothing})


def condition(session: Session, filters: Filters) -> ColumnElement[bool]:
    """What a query over ``Adapter`` asks for."""
    found: list[ColumnElement[bool]] = []
    if filters.task:
        found.append(Adapter.task_id.in_(task_ids(session, filters.task)))
    if filters.dataset:
        found.append(Adapter.dataset_id.in_(dataset_ids(session, filters.dataset)))
    if filters.base:
        found.append(Adapter.base_id.in_(base_ids(session, filters.base)))
    if filters.bases is not None:
        found.append(Adapter.base_id.in_(sorted(filters.bases)))
    for name in ("language", "method", "format", "kind", "license", "head"):
        if values := getattr(filters, name):
            column = getattr(Adapter, name)
            found += [column.in_([value.lower() for value in values]) if name != "head" else column.in_(values)]
    if filters.verified is not None:
        found.append(Adapter.verified.is_(filters.verified))
    if filters.owner:
        owners = select(Account.id).where(Account.key.in_([name.lower() for name in filters.owner]))
        found.append(Adapter.repository_id.in_(select(Repository.id).where(Repository.owner_id.in_(owners))))
    tagged = select(AdapterTag.repository_id)
    found += [Adapter.repository_id.in_(tagged.where(AdapterTag.tag == tag.lower())) for tag in filters.tag]
    if filters.min_size is not None:
        found.append(Adapter.size >= filters.min_size)
    if filters.max_size is not None:
        found.append(Adapter.size <= filters.max_size)
    return and_(true(), *found)


def task_ids(session: Session, slugs: Iterable[str]) -> list[int]:
    """The ids of tasks and languages by name; those that there are none of are passed over."""
    return list(session.scalars(select(Task.id).where(Task.slug.in_([slug.lower() for slug in slugs]))))


def dataset_ids(session: Session, names: Iterable[str]) -> list[int]:
    """The ids of data sets by ``task/dataset`` or ``dataset``, and of all their parts."""
    wanted: ColumnElement[bool] = false()
    for name in names:
        task, _, slug = name.lower().rpartition("/")
        wanted = or_(wanted, and_(Dataset.slug == slug, Task.slug == task if task else true()))
    found = session.scalars(select(Dataset.id).join(Task, Dataset.task_id == Task.id).where(wanted))
    return sorted(taxonomy.with_parts(session, found))


def base_ids(session: Session, names: Iterable[str]) -> list[int]:
    """The ids of all rows of base models of these names."""
    return list(session.scalars(select(BaseModel.id).where(BaseModel.key.in_([canonical(name) for name in names]))))
