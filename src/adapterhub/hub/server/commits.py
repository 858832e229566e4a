"""Changes of files, published in one step: who reads sees the old version or the new one."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from sqlalchemy import delete, update
from sqlalchemy.orm import Session

from adapterhub.errors import UploadRefusedError
from adapterhub.hub.server import admission, audit, blobs, git_objects, policy, repositories, signatures
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.admission import Findings
from adapterhub.hub.server.catalogue import compositions, indexing
from adapterhub.hub.server.database import Blob, Commit, Ref, Repository, Upload, now
from adapterhub.hub.server.errors import EntryNotFoundError, RevisionNotFoundError, StaleParentError, TooLargeError
from adapterhub.hub.server.git_objects import Entry
from adapterhub.hub.server.hub import Hub

_TRIES = 20
_LARGE = (".safetensors", ".model", ".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class Put:
    """Bytes that were sent, or that the repository holds already, are a file at ``path``."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Remove:
    """A file, or a folder with all in it, goes."""

    path: str
    folder: bool = False


Change = Put | Remove


@dataclass(frozen=True)
class Message:
    """What a commit says of itself."""

    title: str
    body: str = ""


class _MovedError(Exception):
    """The branch is no longer where it was when the changes were looked at."""


def is_large(path: str, size: int, limit: int) -> bool:
    """Whether git LFS would hold a file: one above ``limit`` bytes, or of a kind that is no text."""
    return size > limit or path.lower().endswith(_LARGE)


def publish(
    hub: Hub,
    actor: Actor,
    owner: str,
    name: str,
    branch: str,
    changes: Iterable[Change],
    message: Message,
    *,
    parent: str | None = None,
) -> Commit:
    """Change files of a branch, as a whole or not at all; nothing changes if they are that way already.

    Args:
        parent: the commit that the branch has to stand for; by default, whichever it does.

    Raises:
        UploadRefusedError: for files that may not be here, or that are not what they say.
        StaleParentError: if the branch stands for another commit than ``parent``.
        RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError: for what is not there.
        HubAccessError: for who may not.
    """
    changes = list(changes)
    for _ in range(_TRIES):
        with hub.database.read() as session:
            repository = repositories.find(session, actor, owner, name)
            policy.check_write(session, actor, repository)
            head = _head(session, repository, branch)
            if parent is not None and parent != head.oid:
                if _is_made(session, hub, actor, repository, head, parent, changes):
                    return head
                raise StaleParentError(f"{branch} of {repository.full_name} is at {head.oid} by now, not at {parent}")
            before = repositories.files(head)
            after = _changed(session, hub, actor, repository, head, changes)
        if after == before:
            return head
        findings = admission.examine(hub, before, after, (head.info or {}).get("files", ()))
        with hub.database.read() as session:
            signatures.check(session, hub, repository, after)
        findings = _completed(hub, actor, repository, findings)
        try:
            with hub.database.write() as session:
                return _commit(session, hub, actor, head, branch, before, after, message, findings)
        except _MovedError:
            continue
    raise StaleParentError(f"{branch} of {owner}/{name} changes all the time: try again later")


def _completed(hub: Hub, actor: Actor, repository: Repository, findings: Findings) -> Findings:
    """What files turned out to be, with what the hub knows of adapters that they name."""
    if findings.info is None or findings.info.kind != "composition":
        return findings
    with hub.database.read() as session:
        return replace(findings, info=compositions.completed(session, actor, repository, findings.info))


def _is_made(
    session: Session,
    hub: Hub,
    actor: Actor,
    repository: Repository,
    head: Commit,
    parent: str,
    changes: Iterable[Change],
) -> bool:
    """Whether the head is what the changes make of its parent: they were sent again since the answer was lost."""
    before = session.get(Commit, (repository.id, parent))
    if before is None or (head.parent, head.author_id) != (parent, actor.id):
        return False
    return _changed(session, hub, actor, repository, before, changes) == repositories.files(head)


def _head(session: Session, repository: Repository, branch: str) -> Commit:
    ref = session.get(Ref, (repository.id, "branch", branch.removeprefix("refs/heads/")))
    if ref is None:
        raise RevisionNotFoundError(f"{repository.full_name} has no branch {branch!r}: create it first")
    return repositories.revision(session, repository, ref.oid)


def _changed(
    session: Session, hub: Hub, actor: Actor, repository: Repository, head: Commit, changes: Iterable[Change]
) -> dict[str, Entry]:
    """The files after the changes."""
    files = repositories.files(head)
    for change in changes:
        if isinstance(change, Put):
            blob = session.get(Blob, change.sha256)
            if blob is None or not blobs.has(session, actor, repository, change.sha256):
                raise UploadRefusedError(f"{change.path}: the bytes {change.sha256} were not sent: upload them first")
            large = is_large(change.path, blob.size, hub.settings.regular_bytes)
            files[change.path] = git_objects.entry(blob.oid, blob.sha256, blob.size, large)
            continue
        gone = [path for path in files if path == change.path or (change.folder and _under(path, change.path))]
        if not gone:
            raise EntryNotFoundError(f"{repository.full_name} has no {change.path!r} to delete", head.oid)
        for path in gone:
            del files[path]
    return files


def _under(path: str, folder: str) -> bool:
    return path.startswith(f"{folder.strip('/')}/") or not folder.strip("/")


def _commit(
    session: Session,
    hub: Hub,
    actor: Actor,
    head: Commit,
    branch: str,
    before: Mapping[str, Entry],
    after: Mapping[str, Entry],
    message: Message,
    findings: Findings,
) -> Commit:
    # Rows are locked in one order, the repository first, so that no two commits wait for each other.
    repository = session.get_one(Repository, head.repository_id, with_for_update={"of": Repository})
    old = {one.sha256 for one in before.values()}
    new = {one.sha256: one.size for one in after.values() if one.sha256 not in old}
    for sha256 in sorted(new):  # the garbage collection leaves alone what was asked for lately
        if not session.execute(update(Blob).where(Blob.sha256 == sha256).values(used=now())).rowcount:  # type: ignore[attr-defined]
            raise UploadRefusedError(f"the bytes {sha256} were sent too long ago: upload them again")
    repository.size += sum(new.values())
    _check_quota(session, hub, repository)
    commit = repositories.add_commit(session, repository, after, head.oid, actor, message.title, message.body)
    commit.info = None if findings.info is None else findings.info.to_dict()
    moved = (
        update(Ref)
        .where(Ref.repository_id == repository.id, Ref.kind == "branch", Ref.oid == head.oid)
        .where(Ref.name == branch.removeprefix("refs/heads/"))
        .values(oid=commit.oid)
    )
    if not session.execute(moved).rowcount:  # type: ignore[attr-defined]
        raise _MovedError
    session.execute(delete(Upload).where(Upload.account_id == actor.id, Upload.sha256.in_(list(new))))
    repository.updated = now()
    if branch.removeprefix("refs/heads/") == repositories.MAIN:
        indexing.index(session, actor, repository, commit, findings)
        compositions.index(session, actor, repository, findings.info)
    audit.record(session, actor, "commit", repository.key, branch=branch, oid=commit.oid)
    session.flush()
    return commit


def _check_quota(session: Session, hub: Hub, repository: Repository) -> None:
    limit = repository.owner.quota_bytes or hub.settings.quota_bytes
    session.flush()
    if (used := repositories.used_bytes(session, repository.owner_id)) > limit:
        raise TooLargeError(f"{repository.owner.name} would have {used:,} bytes here, and may have {limit:,}")
