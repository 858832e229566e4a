"""Where in the taxonomy an adapter belongs."""

from collections.abc import Iterable

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from adapterhub.errors import HubNotFoundError, UploadRefusedError
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.catalogue import taxonomy
from adapterhub.hub.server.catalogue.describing import Description
from adapterhub.hub.server.database import Dataset, Task

Place = tuple[Task | None, Dataset | None]


def place(session: Session, actor: Actor, said: Description, *, public: bool) -> Place:
    """The task and data set of an adapter; both None if it names none that is known.

    What it names has to be there, or is made: a data set under a known task, a task by a curator. If it names no task,
    the first of the data sets that it was trained on counts that is known here. What is ``public`` makes its data set
    so.

    Raises:
        UploadRefusedError: for a task that is not known; it lists those with names alike.
    """
    task, dataset = _place(session, actor, said, public)
    if dataset is not None and public:
        dataset.public = True
    return task, dataset


def _place(session: Session, actor: Actor, said: Description, public: bool) -> Place:
    if said.task:
        return _named(session, actor, said.task, said.dataset, public)
    if (known := _by_source(session, said.sources)) is not None:
        return known.task, known
    return None, None


def find(session: Session, name: str) -> Dataset | None:
    """The data set that somebody calls so: ``task/dataset``, its name on the Hugging Face Hub, or the one so named."""
    task, _, slug = name.lower().rpartition("/")
    if task and (found := _known(session, task, slug)[1]) is not None:
        return found
    if (by_source := _by_source(session, [name.lower()])) is not None:
        return by_source
    named = session.scalars(select(Dataset).where(Dataset.slug == name.lower()).limit(2)).all()
    return named[0] if len(named) == 1 else None


def _named(session: Session, actor: Actor, task: str, dataset: str, public: bool) -> Place:
    try:
        found = taxonomy.task(session, task)
    except HubNotFoundError as error:
        if not actor.is_admin:
            raise UploadRefusedError(
                f"{error} Name a task that there is, or ask who runs the hub for a new one"
            ) from error
        found = taxonomy.add_task(session, actor, task, task)
    if not dataset:
        return found, None
    known = _known(session, task, dataset)[1]
    return found, known or taxonomy.add_dataset(session, actor, found, dataset, public=public)


def _known(session: Session, task: str, dataset: str) -> Place:
    found = session.scalar(select(Task).where(Task.slug == task))
    if found is None or not dataset:
        return found, None
    return found, session.scalar(select(Dataset).where(Dataset.task_id == found.id, Dataset.slug == dataset))


def _by_source(session: Session, names: Iterable[str]) -> Dataset | None:
    for name in filter(None, names):
        wanted = select(Dataset).where(func.lower(Dataset.source) == name).order_by(Dataset.id).limit(1)
        if (found := session.scalar(wanted)) is not None:
            return found
    return None
