"""The row by which an adapter is found, kept in step with the main branch of its repository."""

from sqlalchemy import delete
from sqlalchemy.orm import Session

from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.admission import Findings
from adapterhub.hub.server.catalogue import bases, placing, scores, words
from adapterhub.hub.server.catalogue.describing import Description, describe
from adapterhub.hub.server.catalogue.words import Texts
from adapterhub.hub.server.database import Adapter, AdapterTag, Commit, Dataset, Repository


def index(session: Session, actor: Actor, repository: Repository, commit: Commit, findings: Findings) -> None:
    """Let a repository be found by what is in a commit; without an adapter it is not in the catalogue.

    Raises:
        UploadRefusedError: for a task that is not known.
    """
    before = session.get(Adapter, repository.id)
    if (info := findings.info) is None:
        if before is None or before.origin is None:  # a reference stays one, whatever is written beside it
            forget(session, repository.id)
        return
    said = describe(info, findings.card)
    task, dataset = placing.place(session, actor, said)
    base = bases.of_info(session, info, said.base)
    row = before or Adapter(repository_id=repository.id)
    language = said.language or (dataset.language if dataset is not None else "")
    if task is not None and task.kind == "language":
        language = task.slug
    values = {
        "oid": commit.oid,
        "content": scores.content_of(commit),
        "kind": info.kind,
        "format": info.format,
        "method": info.method,
        "config_hash": info.config_hash,
        "base_id": None if base is None else base.id,
        "task_id": None if task is None else task.id,
        "dataset_id": None if dataset is None else dataset.id,
        "language": language,
        "license": said.license,
        "head": info.head.type if info.head is not None else "",
        "parameters": info.parameters,
        "size": info.size,
        "title": said.title,
        "summary": said.summary,
        "origin": None,
    }
    if row.is_default and (row.base_id, row.dataset_id) != (values["base_id"], values["dataset_id"]):
        row.is_default = False
    for name, value in values.items():
        setattr(row, name, value)
    session.add(row)
    session.flush()
    session.refresh(row)
    tag(session, repository.id, said.tags)
    scores.claim(
        session, row, [(placing.find(session, one.data) or _only(dataset, one.data), one) for one in said.results]
    )
    write_words(session, row, repository, said)


def forget(session: Session, repository_id: int) -> None:
    """Take a repository out of the catalogue."""
    session.execute(delete(AdapterTag).where(AdapterTag.repository_id == repository_id))
    session.execute(delete(Adapter).where(Adapter.repository_id == repository_id))
    words.forget(session, repository_id)


def tag(session: Session, repository_id: int, tags: tuple[str, ...]) -> None:
    """Put these tags in the place of those before."""
    session.execute(delete(AdapterTag).where(AdapterTag.repository_id == repository_id))
    session.add_all(AdapterTag(repository_id=repository_id, tag=one) for one in tags)
    session.flush()


def write_words(session: Session, row: Adapter, repository: Repository, said: Description) -> None:
    """Let an adapter be found by its words."""
    words.put(session, repository.id, texts(row, repository, said))


def texts(row: Adapter, repository: Repository, said: Description) -> Texts:
    """The words of an adapter, by how much they tell."""
    topic = [row.language, row.method, *said.tags]
    if row.task is not None:
        topic += [row.task.slug, row.task.title]
    if row.dataset is not None:
        topic += [row.dataset.slug, row.dataset.title]
    if row.base is not None:
        topic.append(row.base.name)
    return Texts(f"{repository.full_name} {row.title}", " ".join(topic), row.summary, said.body)


def _only(dataset: Dataset | None, name: str) -> Dataset | None:
    """The data set of the adapter itself, for a score that names none."""
    return None if name else dataset
