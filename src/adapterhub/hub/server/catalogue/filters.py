"""What a search, the counts beside it and the tree are narrowed by."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

import numpy as np
from sqlalchemy import ColumnElement, and_, false, or_, select, true
from sqlalchemy.orm import Session

from adapterhub.hub.bases import canonical
from adapterhub.hub.server import policy
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.catalogue import taxonomy, words
from adapterhub.hub.server.catalogue.columns import NAMES, Columns, Mask, Numbers
from adapterhub.hub.server.database import Account, AdapterTag, BaseModel, Dataset, Task


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
        withdrawn: whether to find those that were withdrawn, and no others; by default the others.
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
    withdrawn: bool = False
    owner: tuple[str, ...] = ()
    tag: tuple[str, ...] = ()
    min_size: int | None = None
    max_size: int | None = None
    bases: frozenset[int] | None = None


@dataclass(frozen=True)
class Selection:
    """What was asked for, as places in the columns.

    Attributes:
        seen: those that somebody may see and that have the words.
        masks: for each filter that is used those that pass it.
    """

    columns: Columns
    seen: Mask
    masks: Mapping[str, Mask]

    def mask(self, without: str = "") -> Mask:
        """What passes all filters, or all but one."""
        found = self.seen.copy()
        for name, mask in self.masks.items():
            if name != without:
                found &= mask
        return found

    def places(self, without: str = "") -> Numbers:
        """``mask`` as numbers."""
        return np.flatnonzero(self.mask(without))


def choose(
    session: Session, actor: Actor, columns: Columns, filters: Filters, asked: str = "", *, in_topic: bool = False
) -> Selection:
    """Narrow the columns to what somebody may see and asks for.

    Args:
        in_topic: whether the words have to be in the topic.
    """
    seen = columns.alive & ~columns["private"]
    owners = policy.seen_owners(session, actor)
    if owners is None:
        seen = columns.alive.copy()
    elif owners:
        seen |= columns.alive & np.isin(columns["owner"], list(owners))
    if (found := words.find(session, asked, in_topic=in_topic)) is not None:
        seen &= columns.mask(found)
    used = [one.name for one in fields(filters) if getattr(filters, one.name) not in ((), None)]
    return Selection(columns, seen, {name: _mask(session, columns, filters, name) for name in used})


def _mask(session: Session, columns: Columns, filters: Filters, name: str) -> Mask:
    values = getattr(filters, name)
    if name in NAMES:
        codes = columns.codes[name]
        wanted = {value if name == "head" else value.lower() for value in values}
        return _any_of(columns[name], [codes[value] for value in wanted if value in codes])
    match name:
        case "task":
            return _any_of(columns["task"], task_ids(session, values))
        case "dataset":
            return _any_of(columns["dataset"], dataset_ids(session, values))
        case "base":
            return _any_of(columns["base"], base_ids(session, values))
        case "bases":
            return _any_of(columns["base"], list(values))
        case "owner":
            names = [value.lower() for value in values]
            return _any_of(columns["owner"], list(session.scalars(select(Account.id).where(Account.key.in_(names)))))
        case "verified" | "withdrawn":
            return columns[name] == values
        case "min_size":
            return columns["size"] >= values
        case "max_size":
            return columns["size"] <= values
        case _:
            return _tagged(session, columns, values)


def _any_of(column: Numbers, wanted: list[int]) -> Mask:
    return column == wanted[0] if len(wanted) == 1 else np.isin(column, wanted)


def _tagged(session: Session, columns: Columns, tags: tuple[str, ...]) -> Mask:
    found = columns.alive.copy()
    for tag in tags:
        wanted = select(AdapterTag.repository_id).where(AdapterTag.tag == tag.lower())
        found &= columns.mask(np.array(session.scalars(wanted).all()))
    return found


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
