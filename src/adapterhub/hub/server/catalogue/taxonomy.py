"""Tasks and languages, and the data sets under them.

A publisher may add a data set under a task that there is; a task or a language is added, and either is changed, by who
administers the server: their names are part of identifiers, and no account may have them.
"""

import difflib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import ColumnElement, func, or_, select, true, update
from sqlalchemy.orm import Session

from adapterhub.errors import HubConflictError, HubIdError, HubNotFoundError
from adapterhub.hub.ids import check_name
from adapterhub.hub.reserved import BRANCHES, ROUTES
from adapterhub.hub.server import audit, policy
from adapterhub.hub.server.actor import STRANGER, Actor
from adapterhub.hub.server.database import Account, Adapter, Dataset, Task
from adapterhub.hub.server.database.upserting import add_new

SHIPPED = Path(__file__).with_name("taxonomy.json")

Kind = Literal["task", "language"]


def seed(session: Session) -> None:
    """Give a hub that has no task yet those of the archived AdapterHub, with their data sets."""
    if session.scalar(select(Task.id).limit(1)) is not None:
        return
    for values in _shipped()["tasks"]:
        datasets = values["datasets"]
        add_new(session, Task, **{key: value for key, value in values.items() if key != "datasets"})
        task_id = session.scalar(select(Task.id).where(Task.slug == values["slug"]))
        for one in datasets:
            add_new(session, Dataset, task_id=task_id, **one)


def tasks(session: Session, kind: Kind | None = None) -> list[Task]:
    """Tasks, or languages, or both, by title."""
    wanted = select(Task).order_by(func.lower(Task.title), Task.slug)
    return list(session.scalars(wanted if kind is None else wanted.where(Task.kind == kind)))


def task(session: Session, slug: str) -> Task:
    """A task or a language by the name that identifiers have.

    Raises:
        HubNotFoundError: if there is none; it lists those with names alike.
    """
    found = session.scalar(select(Task).where(Task.slug == slug.lower()))
    if found is None:
        rows = session.execute(select(Task.slug, Task.title))
        raise HubNotFoundError(f"there is no task or language {slug!r}{_near(slug, rows.tuples())}")
    return found


def datasets(session: Session, of: Task, actor: Actor = STRANGER) -> list[Dataset]:
    """The data sets of a task that somebody may know, by title; ``parent_id`` tells where each belongs."""
    wanted = (
        select(Dataset).where(Dataset.task_id == of.id, _known(actor)).order_by(func.lower(Dataset.title), Dataset.slug)
    )
    return list(session.scalars(wanted))


def dataset(session: Session, of: Task, slug: str, actor: Actor = STRANGER) -> Dataset:
    """A data set of a task that somebody may know.

    Raises:
        HubNotFoundError: if there is none; it lists those with names alike.
    """
    found = session.scalar(select(Dataset).where(Dataset.task_id == of.id, Dataset.slug == slug.lower(), _known(actor)))
    if found is None:
        rows = session.execute(select(Dataset.slug, Dataset.title).where(Dataset.task_id == of.id, Dataset.public))
        raise HubNotFoundError(f"{of.slug} has no data set {slug!r}{_near(slug, rows.tuples())}")
    return found


def add_task(
    session: Session, actor: Actor, slug: str, title: str, kind: Kind = "task", *, description: str = ""
) -> Task:
    """A new task or language.

    Raises:
        HubAccessError: for who does not administer the server.
        HubConflictError: if there is one of that name, or an account.
        HubIdError: for a name that cannot be one.
    """
    policy.check_server_admin(actor)
    if kind not in ("task", "language"):
        raise HubIdError(f"there are tasks and languages, and no {kind!r}")
    made = Task(kind=kind, slug=_free_task(session, slug), title=title or slug, description=description)
    session.add(made)
    session.flush()
    audit.record(session, actor, "task.create", made.slug, kind=kind)
    return made


def change_task(
    session: Session,
    actor: Actor,
    changed: Task,
    *,
    slug: str | None = None,
    title: str | None = None,
    description: str | None = None,
) -> None:
    """Rename a task, or describe it in other words; searches find it by the old words until the hub is indexed anew.

    Raises:
        HubAccessError, HubConflictError, HubIdError: as ``add_task``.
    """
    policy.check_server_admin(actor)
    was = changed.slug
    if slug is not None and slug.lower() != was:
        changed.slug = _free_task(session, slug)
    if title is not None:
        changed.title = title
    if description is not None:
        changed.description = description
    audit.record(session, actor, "task.change", changed.slug, was=was)
    session.flush()


def add_dataset(
    session: Session,
    actor: Actor,
    of: Task,
    slug: str,
    *,
    parent: Dataset | None = None,
    title: str = "",
    **described: Any,
) -> Dataset:
    """A new data set of a task, perhaps a part of another; ``described`` are other columns of ``Dataset``.

    Raises:
        HubAccessError: for who may not publish.
        HubConflictError: if there is one of that name.
        HubIdError: for a name that cannot be one, or a parent of another task.
    """
    policy.check_scope(actor, "write")
    _check_parent(of, parent)
    check_name(slug, "data set")
    name = slug.lower()
    made = session.scalar(select(Dataset).where(Dataset.task_id == of.id, Dataset.slug == name)) or Dataset(
        public=False
    )
    if made.public:
        raise HubConflictError(f"{of.slug} has a data set {name} already")
    made.parent_id = None if parent is None else parent.id
    for column, value in ({"task": of, "slug": name, "title": title or slug, "public": True} | described).items():
        setattr(made, column, value)
    session.add(made)
    session.flush()
    audit.record(session, actor, "dataset.create", f"{of.slug}/{name}")
    return made


def change_dataset(
    session: Session,
    actor: Actor,
    changed: Dataset,
    *,
    slug: str | None = None,
    parent: Dataset | None = None,
    **described: Any,
) -> None:
    """Rename a data set, put it under another, or describe it in other words; ``described`` are columns of ``Dataset``.

    Scores are ranked by another metric once the hub is indexed anew.

    Raises:
        HubAccessError: for who does not administer the server.
        HubConflictError, HubIdError: as ``add_dataset``; also for a parent that is a part of it.
    """
    policy.check_server_admin(actor)
    was = changed.slug
    if slug is not None and slug.lower() != was:
        changed.slug = _free_dataset(session, changed.task, slug)
    if parent is not None:
        _check_parent(changed.task, parent)
        if changed.id in {one.id for one in lineage(session, parent)}:
            raise HubIdError(f"{parent.slug} is a part of {changed.slug}, and cannot be what that is a part of")
        changed.parent_id = parent.id
    for name, value in described.items():
        setattr(changed, name, value)
    audit.record(session, actor, "dataset.change", f"{changed.task.slug}/{changed.slug}", was=was)
    session.flush()


def make_default(session: Session, actor: Actor, adapter: Adapter) -> None:
    """Prefer an adapter to others of its data set and base model that would do as well.

    Raises:
        HubAccessError: for who does not administer the server.
        HubIdError: for one that has no data set or base model.
    """
    policy.check_server_admin(actor)
    if adapter.dataset_id is None or adapter.base_id is None:
        raise HubIdError(f"{adapter.repository.full_name} has no data set, or no base model, to be the default of")
    place = (Adapter.dataset_id == adapter.dataset_id, Adapter.base_id == adapter.base_id)
    session.execute(update(Adapter).where(*place).values(is_default=False))
    adapter.is_default = True
    audit.record(session, actor, "adapter.default", adapter.repository.key)
    session.flush()


def lineage(session: Session, one: Dataset) -> list[Dataset]:
    """A data set, that which it is a part of, and so on."""
    found = [one]
    while (parent_id := found[-1].parent_id) is not None:
        found.append(session.get_one(Dataset, parent_id))
    return found


def with_parts(session: Session, ids: Iterable[int]) -> set[int]:
    """The ids of data sets and of all their parts."""
    found, new = set[int](), set(ids)
    while new:
        found |= new
        new = set(session.scalars(select(Dataset.id).where(Dataset.parent_id.in_(new)))) - found
    return found


def _known(actor: Actor) -> ColumnElement[bool]:
    """What a data set has to be for somebody to know it: public, or that of an adapter that may be seen."""
    if actor.is_admin:
        return true()
    if actor.id is None:
        return Dataset.public.is_(True)
    seen = select(Adapter.dataset_id).join(Adapter.repository).where(policy.visible(actor))
    return or_(Dataset.public, Dataset.id.in_(seen.where(Adapter.dataset_id == Dataset.id)))


def _free_task(session: Session, slug: str) -> str:
    check_name(slug, "task")
    name = slug.lower()
    if name in ROUTES or name in BRANCHES:
        raise HubIdError(f"{slug!r} is reserved: call the task otherwise")
    if session.scalar(select(Task.id).where(Task.slug == name)) is not None:
        raise HubConflictError(f"there is a task or language {name} already")
    if session.scalar(select(Account.id).where(Account.key == name)) is not None:
        raise HubConflictError(f"{name} is the name of an account, and names of tasks must differ from these")
    return name


def _free_dataset(session: Session, of: Task, slug: str) -> str:
    check_name(slug, "data set")
    name = slug.lower()
    if session.scalar(select(Dataset.id).where(Dataset.task_id == of.id, Dataset.slug == name)) is not None:
        raise HubConflictError(f"{of.slug} has a data set {name} already")
    return name


def _check_parent(of: Task, parent: Dataset | None) -> None:
    if parent is not None and parent.task_id != of.id:
        raise HubIdError(f"{parent.slug} is a data set of another task than {of.slug}, and can have no part there")


def _near(slug: str, known: Iterable[tuple[str, str]]) -> str:
    """Names like one that is not there, for the end of a sentence."""
    names = {text.lower(): name for name, title in known for text in (title, name)}
    close = dict.fromkeys(names[one] for one in difflib.get_close_matches(slug.lower(), names, 5, 0.6))
    return f": did you mean {', '.join(close)}?" if close else ""


@cache
def _shipped() -> Any:
    return json.loads(SHIPPED.read_text(encoding="utf-8"))
