"""The adapters of a server: which there are, and which are in the model."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from adapterhub.errors import AdapterHubError
from adapterhub.heads import Head
from adapterhub.serving.adapters import Listed, State
from adapterhub.serving.api.asking import Name
from adapterhub.serving.api.context import TheServer
from adapterhub.serving.failures import problems
from adapterhub.serving.tasks import Task, name_of

router = APIRouter(prefix="/v1/adapters", tags=["adapters"])
InPath = Annotated[Name, Path()]


class AdapterView(BaseModel):
    """An adapter."""

    name: str
    state: State = Field(description="`available` ones are loaded when they are asked for")
    pinned: bool = Field(description="Whether it stays in the model whatever else is asked for")
    source: str | None = Field(description="Of one that is loaded: `folder` or `hub`; so with all that follows")
    version: str | None = Field(description="A commit, or a digest of its files")
    task: Task | None = Field(description="What its head answers, if it has one")
    labels: list[str] | None
    bytes: int | None
    loaded: datetime | None
    requests: int | None = Field(description="That asked for this version")
    error: str | None = Field(description="Why it cannot be loaded")

    @classmethod
    def of(cls, one: Listed) -> "AdapterView":
        """From what the server knows."""
        there = one.loaded
        head = None if there is None else there.held.head
        labels = None if head is None else head.labels
        return cls(
            name=one.name,
            state=one.state,
            pinned=one.pinned,
            source=None if there is None else there.found.source,
            version=None if there is None else there.found.version,
            task=None if head is None else _task(head),
            labels=None if labels is None else list(labels.values()),
            bytes=None if there is None else there.held.nbytes,
            loaded=None if there is None else datetime.fromtimestamp(there.loaded, UTC),
            requests=None if there is None else there.requests,
            error=one.error,
        )


def _task(head: Head) -> Task | None:
    try:
        return name_of(head)
    except AdapterHubError:
        return None


class AdapterList(BaseModel):
    """Those of the folder, and of the hub those that were asked for."""

    model: str = Field(description="The base model")
    adapters: list[AdapterView]


class ToLoad(BaseModel):
    """An adapter that is to be loaded, or looked for again."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    pinned: bool = False


class ToPin(BaseModel):
    """Whether an adapter stays in the model whatever else is asked for."""

    model_config = ConfigDict(extra="forbid")

    pinned: bool


@router.get("", responses=problems())
async def listed(server: TheServer) -> AdapterList:
    """All adapters, by name."""
    found = await server.adapters.listed()
    return AdapterList(model=server.name, adapters=[AdapterView.of(one) for one in found])


@router.post("", responses=problems(403, 404, 409, 503))
async def load(server: TheServer, given: ToLoad) -> AdapterView:
    """Load the newest version of an adapter; requests under way are answered by the one that they began with."""
    await server.adapters.load(given.name)
    if given.pinned:
        await server.adapters.pin(given.name, True)
    return AdapterView.of(server.adapters.one(given.name))


@router.get("/{name:path}", responses=problems(404))
async def one(server: TheServer, name: InPath) -> AdapterView:
    """One adapter."""
    return AdapterView.of(await server.adapters.known(name))


@router.patch("/{name:path}", responses=problems(403, 404, 409, 503))
async def pin(server: TheServer, name: InPath, given: ToPin) -> AdapterView:
    """Pin an adapter, which loads it, or let it go when there is no room."""
    await server.adapters.pin(name, given.pinned)
    return AdapterView.of(server.adapters.one(name))


@router.delete("/{name:path}", responses=problems(404))
async def unload(server: TheServer, name: InPath) -> AdapterView:
    """Take an adapter out of the model, once what is under way is answered; the next request for it loads it again."""
    await server.adapters.unload(name)
    return AdapterView.of(server.adapters.one(name))
