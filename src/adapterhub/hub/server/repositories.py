"""Repositories, their branches and tags, and the commits that these stand for."""

from collections.abc import Iterator, Mapping
from datetime import timedelta

from sqlalchemy import Select, delete, func, literal, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from adapterhub.errors import HubConflictError, HubIdError
from adapterhub.hub.ids import RepositoryId, Revision
from adapterhub.hub.server import accounts, audit, git_objects, policy
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.catalogue import indexing
from adapterhub.hub.server.database import Commit, FormerName, Ref, Repository, Tree, now
from adapterhub.hub.server.database.upserting import add_new, put
from adapterhub.hub.server.errors import RevisionNotFoundError
from adapterhub.hub.server.git_objects import Entry

MAIN = "main"
KEPT_NAMES = timedelta(days=90)
_COMMITS = 50  # of a history that are asked for at once


def find(session: Session, actor: Actor, owner: str, name: str) -> Repository:
    """A repository by a name that it has or had, if it may be seen.

    Raises:
        RepositoryNotFoundError: else.
    """
    try:
        key = RepositoryId(owner, name).key
    except HubIdError as error:
        raise policy.no_repository(f"{owner}/{name}") from error
    found = session.scalar(select(Repository).where(Repository.key == key))
    if found is None and (former := session.get(FormerName, key)) is not None and former.repository_id is not None:
        found = session.get(Repository, former.repository_id)
    if found is None or not policy.may_read(session, actor, found):
        raise policy.no_repository(f"{owner}/{name}")  # as it was asked for, and not as it is called by now
    return found


def create(session: Session, actor: Actor, owner: str, name: str, *, private: bool = False) -> Repository:
    """A new repository with an empty commit on its main branch.

    Raises:
        HubConflictError: if there is one of that name, or was until lately.
        HubIdError: for a name that cannot be one.
        RepositoryNotFoundError: if there is no such owner.
        HubAccessError: if the owner is somebody else.
    """
    RepositoryId(owner, name)
    account = accounts.account(session, owner)
    policy.check_publish(session, actor, account)
    made = Repository(owner=account, name=name, key=f"{account.name}/{name}".lower(), private=private)
    _check_free(session, made.key, account.id)
    try:
        with session.begin_nested():
            session.add(made)
            session.flush()
    except IntegrityError as error:
        raise HubConflictError(f"there is a repository {account.name}/{name} already") from error
    first = add_commit(session, made, {}, None, actor, "initial commit")
    session.add(Ref(repository_id=made.id, kind="branch", name=MAIN, oid=first.oid))
    audit.record(session, actor, "repository.create", made.key, private=private)
    session.flush()
    return made


def remove(session: Session, actor: Actor, repository: Repository) -> None:
    """Delete a repository; its name is kept for its owner for 90 days."""
    policy.check_write(session, actor, repository)
    key, owner_id = repository.key, repository.owner_id
    indexing.forget(session, repository.id)
    session.execute(delete(FormerName).where(FormerName.repository_id == repository.id))
    session.execute(delete(Repository).where(Repository.id == repository.id))
    session.expire_all()
    session.merge(FormerName(key=key, repository_id=None, owner_id=owner_id, created=now()))
    audit.record(session, actor, "repository.delete", key)


def move(session: Session, actor: Actor, repository: Repository, owner: str, name: str) -> None:
    """Give a repository another name or owner; the old name leads to it from then on.

    Raises:
        HubConflictError, HubIdError, HubAccessError: as ``create``.
    """
    policy.check_write(session, actor, repository)
    RepositoryId(owner, name)
    account = accounts.account(session, owner)
    policy.check_publish(session, actor, account)
    old, old_owner = repository.key, repository.owner_id
    key = f"{account.name}/{name}".lower()
    if key != old:
        _check_free(session, key, account.id)
        if session.scalar(select(Repository.id).where(Repository.key == key)) is not None:
            raise HubConflictError(f"there is a repository {account.name}/{name} already")
        session.execute(delete(FormerName).where(FormerName.key == key))
        session.merge(FormerName(key=old, repository_id=repository.id, owner_id=old_owner, created=now()))
    repository.owner, repository.name, repository.key = account, name, key
    audit.record(session, actor, "repository.move", key, was=old)
    session.flush()


def set_private(session: Session, actor: Actor, repository: Repository, private: bool) -> None:
    """Show a repository to all, or to those who belong to its owner."""
    policy.check_write(session, actor, repository)
    repository.private = private
    if not private:
        indexing.publish(session, repository.id)
    audit.record(session, actor, "repository.visibility", repository.key, private=private)


def withdraw(session: Session, actor: Actor, repository: Repository, reason: str | None) -> None:
    """Say why a repository should not be used any more, or (None) that it may: its files stay either way."""
    policy.check_write(session, actor, repository)
    repository.withdrawn = reason
    audit.record(session, actor, "repository.withdraw" if reason else "repository.restore", repository.key)


def revision(session: Session, repository: Repository, name: str) -> Commit:
    """The commit that a branch, a tag or a commit id stands for.

    Raises:
        RevisionNotFoundError: if there is none.
    """
    try:
        plain = Revision(name).text.removeprefix("refs/heads/").removeprefix("refs/tags/")
    except HubIdError as error:
        raise RevisionNotFoundError(f"{repository.full_name} has no branch, tag or commit {name!r}") from error
    oid = session.scalar(
        select(Ref.oid).where(Ref.repository_id == repository.id, Ref.name == plain).order_by(Ref.kind).limit(1)
    )
    found = session.get(Commit, (repository.id, oid or name))
    if found is None:
        raise RevisionNotFoundError(f"{repository.full_name} has no branch, tag or commit {name!r}")
    return found


def files(commit: Commit) -> dict[str, Entry]:
    """The files of a commit by path."""
    return {path: Entry(*values) for path, values in commit.tree.files.items()}


def history(session: Session, repository: Repository, commit: Commit) -> Iterator[Commit]:
    """A commit and those before it, the newest first; some are asked for at once, and more as they are wanted."""
    start: str | None = commit.oid
    while start is not None:
        found = session.scalars(_before(repository, start)).all()
        yield from found
        start = found[-1].parent if found else None


def _before(repository: Repository, start: str) -> Select[Commit]:
    """A commit and as many before it as are asked for at once."""
    own = Commit.repository_id == repository.id
    chain = select(Commit.oid, Commit.parent, literal(1).label("place")).where(own, Commit.oid == start)
    walked = chain.cte("walked", recursive=True)
    earlier = select(Commit.oid, Commit.parent, walked.c.place + 1)
    walked = walked.union_all(earlier.where(own, Commit.oid == walked.c.parent, walked.c.place < _COMMITS))
    return select(Commit).join(walked, Commit.oid == walked.c.oid).where(own).order_by(walked.c.place)


def refs(session: Session, repository: Repository) -> list[Ref]:
    """All branches and tags, by name."""
    return list(session.scalars(select(Ref).where(Ref.repository_id == repository.id).order_by(Ref.kind, Ref.name)))


def add_branch(session: Session, actor: Actor, repository: Repository, name: str, start: str = MAIN) -> None:
    """A new branch from a revision.

    Raises:
        HubConflictError: if there is a branch of that name.
        HubIdError: for a name that cannot be one.
        RevisionNotFoundError: for a start that is not there.
    """
    _add_ref(session, actor, repository, "branch", name, start, "")


def add_tag(session: Session, actor: Actor, repository: Repository, name: str, of: str, message: str = "") -> None:
    """A new tag on a revision; tags never move.

    Raises:
        HubConflictError: if there is a tag of that name.
        HubIdError: for a name that cannot be one.
        RevisionNotFoundError: for a revision that is not there.
    """
    _add_ref(session, actor, repository, "tag", name, of, message)


def remove_ref(session: Session, actor: Actor, repository: Repository, kind: str, name: str) -> None:
    """Delete a branch or a tag; its commits stay.

    Raises:
        HubConflictError: for the main branch.
        RevisionNotFoundError: if there is none of that name.
    """
    policy.check_write(session, actor, repository)
    if (kind, name) == ("branch", MAIN):
        raise HubConflictError("the main branch cannot be deleted")
    found = session.get(Ref, (repository.id, kind, name))
    if found is None:
        raise RevisionNotFoundError(f"{repository.full_name} has no {kind} {name!r}")
    session.delete(found)
    audit.record(session, actor, f"{kind}.delete", repository.key, name=name, oid=found.oid)


def used_bytes(session: Session, owner_id: int) -> int:
    """How many bytes the repositories of an account hold, or held once."""
    return session.scalar(select(func.sum(Repository.size)).where(Repository.owner_id == owner_id)) or 0


def add_commit(
    session: Session,
    repository: Repository,
    content: Mapping[str, Entry],
    parent: str | None,
    actor: Actor,
    title: str,
    message: str = "",
) -> Commit:
    """A commit that no branch stands for yet; the same one if the same was made in the same second."""
    tree, time = git_objects.folders(content)[""], now().replace(microsecond=0)
    values = {path: [one.oid, one.sha256, one.size, one.large] for path, one in sorted(content.items())}
    put(session, Tree, {"oid": tree}, files=values, used=now())
    oid = git_objects.commit_id(tree, parent, actor.name, time, f"{title}\n\n{message}".strip())
    add_new(
        session,
        Commit,
        repository_id=repository.id,
        oid=oid,
        parent=parent,
        tree_oid=tree,
        author_id=actor.id,
        author=actor.name,
        title=title,
        message=message,
        created=time,
    )
    made = session.get(Commit, (repository.id, oid))
    assert made is not None
    return made


def _add_ref(
    session: Session, actor: Actor, repository: Repository, kind: str, name: str, of: str, message: str
) -> None:
    policy.check_write(session, actor, repository)
    Revision(name)
    commit = revision(session, repository, of)
    if not add_new(
        session, Ref, repository_id=repository.id, kind=kind, name=name, oid=commit.oid, message=message, created=now()
    ):
        raise HubConflictError(f"{repository.full_name} has a {kind} {name!r} already")
    audit.record(session, actor, f"{kind}.create", repository.key, name=name, oid=commit.oid)


def _check_free(session: Session, key: str, owner_id: int) -> None:
    """Pass a name that is not kept for somebody else, nor for a repository that moved away from it."""
    former = session.get(FormerName, key)
    if former is None:
        return
    if former.owner_id != owner_id and former.created > now() - KEPT_NAMES:
        raise HubConflictError(f"{key} was the name of another's repository until lately: choose another")
    session.delete(former)
    session.flush()
