"""What the pages of one repository have in common: where it stands, its files, and what they turned out to be."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from adapterhub.hub.server import policy, repositories
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.catalogue import bases
from adapterhub.hub.server.database import Adapter, Commit, Ref, Repository, Task
from adapterhub.hub.server.git_objects import Entry
from adapterhub.hub.server.web import wording
from adapterhub.hub.server.web.items import explore_path
from adapterhub.hub.server.web.rendering import segment

_HIDDEN = {"method", "configs", "base_model_name_or_path", "peft_type", "auto_mapping", "task_type"}
_HIDDEN |= {"r", "reduction_factor", "inference_mode", "revision", "peft_version"}
_WEIGHTS = ".safetensors"


@dataclass(frozen=True)
class File:
    """A file of a commit."""

    path: str
    entry: Entry


@dataclass(frozen=True)
class View:
    """A repository at a commit.

    Attributes:
        repository, commit: which.
        adapter: the row of the catalogue, which tells of the main branch.
        is_newest: whether the commit is that of the main branch.
        revision: how the commit was asked for.
        info: what was found out about the files (``AdapterInfo`` as JSON); of a reference, what is known of them.
        files: by path.
        refs: branches and tags.
        may_write: whether the visitor may change it.
        trail: where it stands in the catalogue, as names and addresses.
    """

    repository: Repository
    commit: Commit
    adapter: Adapter | None
    is_newest: bool
    revision: str
    info: Mapping[str, Any]
    files: list[File]
    refs: list[Ref]
    may_write: bool
    trail: list[tuple[str, str]]

    @property
    def path(self) -> str:
        """The address of its page."""
        return path_of(self.repository)

    @property
    def owner(self) -> str:
        """The name of its owner."""
        return self.repository.owner.name

    @property
    def name(self) -> str:
        """Its name."""
        return self.repository.name

    @property
    def base(self) -> str:
        """The base model, as far as it is known."""
        if self.info.get("base"):
            return str(self.info["base"])
        known = self.adapter is not None and self.adapter.base is not None
        return self.adapter.base.name if known and self.adapter and self.adapter.base else ""

    @property
    def origin(self) -> Mapping[str, Any]:
        """Of a reference: where its files are."""
        return (self.adapter.origin if self.adapter is not None else None) or {}

    @property
    def weights(self) -> str:
        """The first file of weights."""
        return next((one.path for one in self.files if one.path.endswith(_WEIGHTS)), "")

    @property
    def size(self) -> int:
        """Of all files, in bytes."""
        return sum(one.entry.size for one in self.files)

    def fact(self, name: str, otherwise: Any = "") -> Any:
        """Something that was found out about the files, or else that the catalogue has."""
        found = self.info.get(name)
        if found in (None, "", 0) and self.adapter is not None:
            found = getattr(self.adapter, name, None)
        return otherwise if found is None else found


def view(session: Session, actor: Actor, owner: str, name: str, revision: str = repositories.MAIN) -> View:
    """A repository at a branch, tag or commit.

    Raises:
        RepositoryNotFoundError, RevisionNotFoundError: if there is none, or none that may be seen.
    """
    repository = repositories.find(session, actor, owner, name)
    commit = repositories.revision(session, repository, revision)
    adapter = session.get(Adapter, repository.id)
    refs = repositories.refs(session, repository)
    head = next((ref.oid for ref in refs if (ref.kind, ref.name) == ("branch", repositories.MAIN)), None)
    return View(
        repository,
        commit,
        adapter,
        commit.oid == head,
        revision,
        commit.info or _reference(session, adapter),
        [File(path, entry) for path, entry in sorted(repositories.files(commit).items())],
        refs,
        policy.may_write(session, actor, repository.owner),
        _trail(adapter),
    )


def path_of(repository: Repository) -> str:
    """The address of the page of a repository."""
    return f"/{segment(repository.owner.name)}/{segment(repository.name)}"


def properties(view: View) -> list[tuple[str, str]]:
    """What is known of an adapter, as pairs to read."""
    rank, reduction = view.fact("rank", None), view.fact("reduction_factor", None)
    head = view.info.get("head") or {}
    labels = head.get("labels") or ()
    made = [
        ("Identifier", _coordinate(view)),
        ("Method", wording.method(view.fact("method"))),
        ("Rank", wording.value(rank) if rank else ""),
        ("Reduction factor", wording.value(reduction) if reduction else ""),
        ("Parameters", f"{view.fact('parameters', 0):,}" if view.fact("parameters", 0) else ""),
        ("Precision", ", ".join(view.info.get("dtypes") or ())),
        ("Size", wording.size(view.size) if view.size else ""),
        ("Format", wording.file_format(view.fact("format"))),
        ("Architecture", view.info.get("model_type") or ""),
        ("Head", head.get("type") or (view.adapter.head if view.adapter is not None else "")),
        ("Labels", ", ".join(map(str, labels[:12])) + (" and more" if len(labels) > 12 else "")),
        ("Language", view.adapter.language if view.adapter is not None else ""),
        ("Author", view.origin.get("author", "")),
        ("Licence", view.adapter.license if view.adapter is not None else ""),
    ]
    return [(name, str(text)) for name, text in made if text]


def options(view: View) -> list[tuple[str, str]]:
    """The configuration of an adapter, without what is off."""
    config = view.info.get("config") or {}
    return [
        (wording.words(name), wording.value(one))
        for name, one in sorted(config.items())
        if name not in _HIDDEN and one not in (None, False, "", [], {})
    ]


def commits_of(session: Session, repository: Repository) -> int:
    """How many commits there are."""
    counted = select(func.count()).select_from(Commit).where(Commit.repository_id == repository.id)
    return session.scalar(counted) or 0


def _coordinate(view: View) -> str:
    """What it is called by its place in the catalogue."""
    if view.adapter is None or view.adapter.task is None:
        return ""
    task, dataset = view.adapter.task, view.adapter.dataset
    topic = f"lang/{task.slug}" if task.kind == "language" else task.slug
    return f"{topic}/{dataset.slug}@{view.owner}" if dataset is not None else f"{topic}@{view.owner}"


def _reference(session: Session, adapter: Adapter | None) -> dict[str, Any]:
    """What is known of an adapter whose files lie elsewhere."""
    if adapter is None or adapter.origin is None:
        return {}
    layers = None if adapter.base is None else bases.as_base(session, adapter.base).layers
    config = {"method": adapter.method, **(adapter.origin.get("config") or {})}
    return {"method": adapter.method, "config": config, "layers": layers}


def _trail(adapter: Adapter | None) -> list[tuple[str, str]]:
    if adapter is None or adapter.task is None:
        return []
    task: Task = adapter.task
    is_language = task.kind == "language"
    made = [
        ("Languages" if is_language else "Tasks", f"/explore/{'languages' if is_language else 'tasks'}"),
        (task.title, explore_path(task)),
    ]
    if adapter.dataset is not None:
        made.append((adapter.dataset.title, explore_path(task, adapter.dataset)))
    return made
