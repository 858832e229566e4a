"""Copies of adapters of another hub are brought up to date.

What comes goes through the same checks as what anybody uploads; files that may not be here are left out, and what was
left out is written down with the reason. Every branch and tag is copied as it is now, not with all that it was before;
the commit here names the commit there.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.hf_api import RepoFile
from sqlalchemy import select

from adapterhub.errors import AdapterHubError, HubConflictError, HubError, HubUnreachableError, UploadRefusedError
from adapterhub.hub.inspecting import check_file, check_type
from adapterhub.hub.inspecting.files import check_path
from adapterhub.hub.server import blobs, commits, mirrors, repositories
from adapterhub.hub.server.actor import SERVER, Actor
from adapterhub.hub.server.commits import Change, Message, Put, Remove
from adapterhub.hub.server.database import Mirror, Mirrored, Ref, Repository, now
from adapterhub.hub.server.git_objects import Entry
from adapterhub.hub.server.hub import Hub

_MOST = 2000  # repositories of a pattern
# Of whichever HTTP client huggingface_hub uses.
_TransportError: type[Exception] = next(kind for kind in HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError")

Report = Callable[[str, str], object]


@dataclass
class _Copy:
    """A repository that is being copied.

    Attributes:
        api: upstream, as one asks it.
        owner, name: of the copy; ``source`` is the name upstream.
        refs: what was copied: by ``kind/name``, the commit there and the commit here.
        skipped: files that are left out, and why.
    """

    api: HfApi
    source: str
    actor: Actor
    owner: str
    name: str
    refs: dict[str, tuple[str, str]]
    skipped: dict[str, str] = field(default_factory=dict)


def refresh_one(hub: Hub, arguments: dict[str, Any]) -> None:
    """Refresh the mirror of a job, unless it was removed meanwhile."""
    with hub.database.read() as session:
        if session.get(Mirror, arguments["mirror"]) is None:
            return
    refresh(hub, arguments["mirror"], lambda name, what: None)


def refresh(hub: Hub, number: int, report: Report) -> None:
    """Bring the copies of a mirror up to date; ``report`` is told the name of each repository, and what became of it.

    Raises:
        HubUnreachableError: if the hub does not answer. What went wrong with one repository alone is written down.
    """
    with hub.database.read() as session:
        mirror = mirrors.get(session, number)
    mirrors.check_upstream(hub.settings, mirror.upstream)
    token = hub.settings.mirror_tokens.get(mirror.upstream)
    api = HfApi(mirror.upstream, token=False if token is None else token.get_secret_value())
    error = ""
    try:
        for name in _names(api, mirror.pattern):
            report(name, _refresh(hub, api, mirror, name))
    except (_TransportError, OSError) as problem:
        error = f"{type(problem).__name__}: {problem}"
        raise HubUnreachableError(f"{mirror.upstream}: {error}") from problem
    finally:
        with hub.database.write() as session:
            if (found := session.get(Mirror, number)) is not None:
                found.refreshed, found.error = now(), error


def _names(api: HfApi, pattern: str) -> Iterator[str]:
    """The repositories upstream that a pattern names."""
    if pattern.startswith(mirrors.SEARCH):
        found = api.list_models(search=pattern.removeprefix(mirrors.SEARCH).strip())
        yield from (one.id for one in islice(found, _MOST) if "/" in one.id)
        return
    owner, _, name = pattern.partition("/")
    if not set("*?") & set(name):
        yield pattern
        return
    of_owner = (one.id for one in api.list_models(author=owner))
    yield from islice((one for one in of_owner if fnmatchcase(one.partition("/")[2], name)), _MOST)


def _refresh(hub: Hub, api: HfApi, mirror: Mirror, source: str) -> str:
    """Copy what is new of a repository; returns what was done, in words."""
    with hub.database.read() as session:
        before = session.get(Mirrored, (mirror.id, source))
        old = _refs(before)
    repository_id, error, copy = None, "", None
    try:
        private = bool(api.model_info(source).private)
        repository_id, copy = _prepare(hub, api, mirror, source, private, before)
        _copy_refs(hub, copy)
    except AdapterHubError as problem:
        error = str(problem)
    except HfHubHTTPError as problem:
        if problem.response.status_code >= 500:
            raise
        error = " ".join(str(problem).split())[:500]
    with hub.database.write() as session:
        refs = old if copy is None else copy.refs
        skipped = before.skipped if copy is None and before is not None else {} if copy is None else copy.skipped
        if copy is not None and copy.refs == old and before is not None:
            skipped = before.skipped | copy.skipped
        row = Mirrored(mirror_id=mirror.id, name=source, repository_id=repository_id, refs=refs, skipped=skipped)
        row.error, row.refreshed = error, now()
        session.merge(row)
    if error:
        return f"not copied: {error}"
    return "unchanged" if copy is not None and copy.refs == old else "copied"


def _prepare(
    hub: Hub, api: HfApi, mirror: Mirror, source: str, private: bool, before: Mirrored | None
) -> tuple[int, _Copy]:
    """The repository that holds the copy, made at the first time."""
    with hub.database.write() as session:
        owner = mirrors.owner_of(session, SERVER, mirror, source)
        actor, name = Actor(owner.id, owner.name, "write"), source.rpartition("/")[2]
        key = f"{owner.name}/{name}".lower()
        found = session.scalar(select(Repository).where(Repository.key == key))
        if found is None:
            found = repositories.create(session, actor, owner.name, name, private=private)
        elif before is None or before.repository_id != found.id:
            raise HubConflictError(f"there is a repository {key} here that is no copy of this mirror")
        elif private and not found.private:
            repositories.set_private(session, actor, found, private)
        return found.id, _Copy(api, source, actor, owner.name, name, _refs(before))


def _refs(before: Mirrored | None) -> dict[str, tuple[str, str]]:
    return {} if before is None else {name: (there, here) for name, (there, here) in before.refs.items()}


def _copy_refs(hub: Hub, copy: _Copy) -> None:
    """Copy the branches that stand elsewhere than before, and the tags that are new."""
    there = copy.api.list_repo_refs(copy.source)
    for branch in sorted(there.branches, key=lambda one: one.name != repositories.MAIN):
        if copy.refs.get(f"branch/{branch.name}", ("", ""))[0] != branch.target_commit:
            oid = _copy_commit(hub, copy, branch.name, branch.target_commit)
            copy.refs[f"branch/{branch.name}"] = branch.target_commit, oid
    for tag in there.tags:
        if f"tag/{tag.name}" not in copy.refs:
            copy.refs[f"tag/{tag.name}"] = tag.target_commit, _copy_tag(hub, copy, tag.name, tag.target_commit)
        elif copy.refs[f"tag/{tag.name}"][0] != tag.target_commit:
            copy.skipped[f"tag {tag.name}"] = "it was moved upstream; tags never move here"


def _copy_tag(hub: Hub, copy: _Copy, name: str, commit: str) -> str:
    """Copy a tag, with its commit if no branch that is copied stands for that."""
    known = dict(copy.refs.values())
    passing = f"mirror-{commit[:12]}"
    oid = known.get(commit) or _copy_commit(hub, copy, passing, commit)
    with hub.database.write() as session:
        repository = repositories.find(session, copy.actor, copy.owner, copy.name)
        repositories.add_tag(session, copy.actor, repository, name, oid)
        if session.get(Ref, (repository.id, "branch", passing)) is not None:
            repositories.remove_ref(session, copy.actor, repository, "branch", passing)
    return oid


def _copy_commit(hub: Hub, copy: _Copy, branch: str, commit: str) -> str:
    """Bring a branch to the files that a commit has upstream; returns the commit here."""
    with hub.database.write() as session:
        repository = repositories.find(session, copy.actor, copy.owner, copy.name)
        if session.get(Ref, (repository.id, "branch", branch)) is None:
            repositories.add_branch(session, copy.actor, repository, branch)
        here = repositories.files(repositories.revision(session, repository, f"refs/heads/{branch}"))
    tree = copy.api.list_repo_tree(copy.source, revision=commit, recursive=True)
    there = {one.path: one for one in tree if isinstance(one, RepoFile)}
    changes: list[Change] = []
    skipped: dict[str, str] = {}
    with TemporaryDirectory(dir=_made(hub.uploads), prefix="mirror-") as folder:
        for path, file in there.items():
            if path not in here or not _same(here[path], file):
                changes += _fetched(hub, copy, commit, file, Path(folder), skipped)
    changes += [Remove(path) for path in here if path not in there or path in skipped]
    copy.skipped |= skipped
    message = Message(
        f"Copy {copy.source} at {commit[:12]}", f"Upstream: {copy.api.endpoint}/{copy.source}/commit/{commit}"
    )
    return commits.publish(hub, copy.actor, copy.owner, copy.name, branch, changes, message).oid


def _fetched(hub: Hub, copy: _Copy, commit: str, file: RepoFile, folder: Path, skipped: dict[str, str]) -> list[Change]:
    """A file is fetched and taken, unless it may not be here."""
    try:
        check_path(file.path)
        check_type(file.path)
        if file.size > hub.settings.max_file_bytes:
            raise UploadRefusedError(
                f"{file.path} is larger than the {hub.settings.max_file_bytes:,} bytes allowed here"
            )
        path = Path(copy.api.hf_hub_download(copy.source, file.path, revision=commit, local_dir=folder))
        with path.open("rb") as stream:
            check_file(file.path, stream)
            stream.seek(0)
            sha256 = blobs.receive(hub, copy.actor, iter(lambda: stream.read(1 << 20), b""), file.path)
        if file.lfs is not None and file.lfs.sha256 != sha256:
            raise HubError(f"{file.path} is not what {copy.api.endpoint} says it is: SHA-256 {sha256}")
        path.unlink()
    except UploadRefusedError as problem:
        skipped[file.path] = str(problem)
        return []
    return [Put(file.path, sha256)]


def _same(here: Entry, there: RepoFile) -> bool:
    if there.lfs is not None:
        return here.sha256 == there.lfs.sha256
    return not here.large and here.oid == there.blob_id


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
