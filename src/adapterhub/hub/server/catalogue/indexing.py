"""The row by which an adapter is found, kept in step with the main branch of its repository."""

from sqlalchemy import delete
from sqlalchemy.orm import Session

from adapterhub.errors import UploadRefusedError
from adapterhub.hub.compatibility import Requirement, contradictions
from adapterhub.hub.inspecting import AdapterInfo
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.admission import Findings
from adapterhub.hub.server.catalogue import bases, placing, scores, words
from adapterhub.hub.server.catalogue.describing import Description, describe
from adapterhub.hub.server.catalogue.scores import Result
from adapterhub.hub.server.catalogue.words import Texts
from adapterhub.hub.server.database import Adapter, AdapterTag, BaseModel, Commit, Dataset, Repository, Task


def index(session: Session, actor: Actor, repository: Repository, commit: Commit, findings: Findings) -> None:
    """Let a repository be found by what is in a commit; without an adapter it is not in the catalogue.

    Raises:
        UploadRefusedError: for a task that is not known, or a base model that it does not fit.
    """
    before = session.get(Adapter, repository.id)
    if (info := findings.info) is None:
        if before is None or before.origin is None:  # a reference stays one, whatever is written beside it
            forget(session, repository.id)
        return
    said = describe(info, findings.card)
    task, dataset = placing.place(session, actor, said, public=not repository.private)
    base = bases.of_info(session, info, said.base, public=not repository.private)
    _check_base(session, info, base)
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
    scores.claim(session, row, _on_datasets(session, dataset, said.results))
    write_words(session, row, repository, said)


def publish(session: Session, repository_id: int) -> None:
    """Have the data set and the base model of an adapter be known to all, as it is from now on."""
    if (row := session.get(Adapter, repository_id)) is not None:
        if row.dataset is not None:
            row.dataset.public = True
        if row.base is not None:
            row.base.public = True


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
    base = row.base.name if row.base is not None else ""
    words.put(
        session,
        repository.id,
        texts(repository.full_name, said, row.method, row.language, row.task, row.dataset, base),
    )


def texts(
    name: str, said: Description, method: str, language: str, task: Task | None, dataset: Dataset | None, base: str
) -> Texts:
    """The words of an adapter."""
    places = [text for one in (task, dataset) if one is not None for text in (one.slug, one.title)]
    topic = " ".join([*places, base, method, language, *said.tags])
    return Texts(f"{name} {said.title} {topic}", f"{said.summary} {said.body}")


def _on_datasets(
    session: Session, own: Dataset | None, results: tuple[Result, ...]
) -> list[tuple[Dataset | None, Result]]:
    """Results with the data sets that they are on; if all are on one that is not known here, it is the adapter's."""
    known = {one.data: placing.find(session, one.data) for one in results}
    if len(known) == 1 and None in known.values():
        return [(own, one) for one in results]
    return [(known[one.data], one) for one in results]


def _check_base(session: Session, info: AdapterInfo, base: BaseModel | None) -> None:
    """Refuse an adapter that cannot go into the base model that it names, as far as that is known here."""
    if base is None:
        return
    requirement = Requirement(hidden_size=info.hidden_size, needs=info.needs)
    if problems := contradictions(requirement, bases.as_base(session, base)):
        raise UploadRefusedError(
            f"the adapter says that it is for {base.name}, and does not fit it: {'; '.join(problems)}. Name the model "
            "that it was trained on"
        )
