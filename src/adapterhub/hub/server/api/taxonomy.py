"""Tasks, languages and their data sets: each in full, and what curators change."""

from typing import Annotated, Any, Literal

from fastapi import Path
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from adapterhub.errors import HubNotFoundError
from adapterhub.hub.server import repositories
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.api.adapters import Name, Owner
from adapterhub.hub.server.api.narrowing import Text
from adapterhub.hub.server.api.problems import problems
from adapterhub.hub.server.api.routing import router
from adapterhub.hub.server.catalogue import taxonomy, tree
from adapterhub.hub.server.context import TheActor, TheHub
from adapterhub.hub.server.database import Adapter, Dataset, Task

routes = router("catalogue")

TaskName = Annotated[str, Path(max_length=96, description="A task or a language, as identifiers have it")]
DatasetName = Annotated[str, Path(max_length=96, description="A data set of the task")]
Slug = Annotated[str, Field(min_length=1, max_length=96)]
Prose = Annotated[str, Field(max_length=5000, pattern=r"^[^\x00]*$")]
Kind = Literal["task", "language"]


class DatasetView(BaseModel):
    """A data set of a task, or a corpus of a language, with the number of adapters for it and its parts."""

    slug: str
    parent: str | None = Field(description="That which it is a part of")
    title: str
    description: str
    citation: str
    url: str
    source: str = Field(description="Its name on the Hugging Face Hub")
    language: str
    metric: str
    higher_is_better: bool
    count: int


class TaskView(BaseModel):
    """A task or a language with its data sets."""

    slug: str
    kind: Kind
    title: str
    description: str
    datasets: list[DatasetView]


class NewTask(BaseModel):
    """A task or a language to add."""

    slug: Slug
    kind: Kind = "task"
    title: Text = ""
    description: Prose = ""


class ChangedTask(BaseModel):
    """What shall be different; what is left out stays."""

    slug: Slug | None = None
    title: Text | None = None
    description: Prose | None = None


class ChangedDataset(BaseModel):
    """What shall be different; what is left out stays."""

    slug: Slug | None = None
    parent: Slug | None = None
    title: Text | None = None
    description: Prose | None = None
    citation: Prose | None = None
    url: Text | None = Field(None, pattern=r"^(https?://[^\s\x00]+)?$")
    source: Text | None = None
    language: str | None = Field(None, max_length=16, pattern=r"^[\w-]*$")
    metric: str | None = Field(None, max_length=64, pattern=r"^[^\x00]*$")
    higher_is_better: bool | None = None

    def described(self) -> dict[str, Any]:
        """The columns of ``Dataset`` that are given, without names."""
        return self.model_dump(exclude_none=True, exclude={"slug", "parent"})


class NewDataset(ChangedDataset):
    """A data set to add."""

    slug: Slug


@routes.get("/tasks/{task}", responses=problems(404))
def task_of(hub: TheHub, actor: TheActor, task: TaskName) -> TaskView:
    """A task or a language with all its data sets."""
    with hub.database.read() as session:
        return _view(session, actor, taxonomy.task(session, task))


@routes.post("/tasks", status_code=201, responses=problems(401, 403, 409))
def add_task(hub: TheHub, actor: TheActor, wanted: NewTask) -> TaskView:
    """A new task or language, by who administers the hub."""
    with hub.database.write() as session:
        made = taxonomy.add_task(session, actor, wanted.slug, wanted.title, wanted.kind, description=wanted.description)
        return _view(session, actor, made)


@routes.patch("/tasks/{task}", responses=problems(401, 403, 404, 409))
def change_task(hub: TheHub, actor: TheActor, task: TaskName, wanted: ChangedTask) -> TaskView:
    """Rename or describe a task, by who administers the hub."""
    with hub.database.write() as session:
        changed = taxonomy.task(session, task)
        taxonomy.change_task(session, actor, changed, **wanted.model_dump(exclude_none=True))
        return _view(session, actor, changed)


@routes.post("/tasks/{task}/datasets", status_code=201, responses=problems(401, 403, 404, 409))
def add_dataset(hub: TheHub, actor: TheActor, task: TaskName, wanted: NewDataset) -> DatasetView:
    """A new data set of a task, by who may publish."""
    with hub.database.write() as session:
        of = taxonomy.task(session, task)
        parent = None if wanted.parent is None else taxonomy.dataset(session, of, wanted.parent, actor)
        made = taxonomy.add_dataset(session, actor, of, wanted.slug, parent=parent, **wanted.described())
        return _dataset(session, actor, made)


@routes.patch("/tasks/{task}/datasets/{dataset}", responses=problems(401, 403, 404, 409))
def change_dataset(
    hub: TheHub, actor: TheActor, task: TaskName, dataset: DatasetName, wanted: ChangedDataset
) -> DatasetView:
    """Rename or describe a data set, or make it a part of another, by who administers the hub."""
    with hub.database.write() as session:
        changed = taxonomy.dataset(session, taxonomy.task(session, task), dataset, actor)
        parent = None if wanted.parent is None else taxonomy.dataset(session, changed.task, wanted.parent, actor)
        taxonomy.change_dataset(session, actor, changed, slug=wanted.slug, parent=parent, **wanted.described())
        return _dataset(session, actor, changed)


@routes.put("/adapters/{owner}/{name}/default", status_code=204, responses=problems(401, 403, 404))
def make_default(hub: TheHub, actor: TheActor, owner: Owner, name: Name) -> None:
    """Prefer an adapter to others of its data set and base model that would do as well, by who administers the hub."""
    with hub.database.write() as session:
        repository = repositories.find(session, actor, owner, name)
        adapter = session.get(Adapter, repository.id)
        if adapter is None:
            raise HubNotFoundError(f"{repository.full_name} holds no adapter")
        taxonomy.make_default(session, actor, adapter)


def _dataset(session: Session, actor: Actor, one: Dataset) -> DatasetView:
    return next(found for found in _view(session, actor, one.task).datasets if found.slug == one.slug)


def _view(session: Session, actor: Actor, task: Task) -> TaskView:
    """A task, and its data sets in the order of their titles."""
    known = taxonomy.datasets(session, task, actor)
    names = {one.id: one.slug for one in known}
    counts = tree.counts(session, actor, task)
    own = DatasetView.model_fields.keys() - {"parent", "count"}
    views = [
        DatasetView(
            **{name: getattr(one, name) for name in own},
            parent=names.get(one.parent_id) if one.parent_id else None,
            count=counts[one.slug],
        )
        for one in known
    ]
    kind: Any = task.kind
    return TaskView(slug=task.slug, kind=kind, title=task.title, description=task.description, datasets=views)
