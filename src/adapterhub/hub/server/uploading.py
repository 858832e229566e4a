"""Files that a person brings to the web site: looked at one by one, then published as a whole."""

from collections.abc import Iterable, Mapping

from sqlalchemy import select

from adapterhub.errors import HubError
from adapterhub.hub.ids import RepositoryId
from adapterhub.hub.inspecting import check_file, check_paths
from adapterhub.hub.server import blobs, commits, policy, repositories
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.commits import Message, Put
from adapterhub.hub.server.database import Commit, Repository
from adapterhub.hub.server.hub import Hub

_LEFT_OUT = {".ds_store", "thumbs.db", "desktop.ini", ".gitattributes"}


def is_left_out(path: str) -> bool:
    """Whether a file is there for the sake of somebody's desktop alone."""
    return path.rpartition("/")[2].lower() in _LEFT_OUT


def take(hub: Hub, actor: Actor, path: str, pieces: Iterable[bytes]) -> str:
    """Take a file if it may be here; returns the SHA-256 of its bytes.

    Raises:
        UploadRefusedError: saying what is wrong with it.
        TooLargeError: if it is too large.
    """
    policy.check_scope(actor, "write")
    check_paths([path])
    with blobs.arriving(hub, pieces, path) as file:
        with file.path.open("rb") as stream:
            check_file(path, stream)
        blobs.keep(hub, actor, file)
        return file.sha256


def publish(
    hub: Hub, actor: Actor, owner: str, name: str, files: Mapping[str, str], title: str, *, private: bool = False
) -> Commit:
    """Publish files that were taken, by path, into a repository, which is made if need be.

    Raises:
        UploadRefusedError: if the files together are not what they say; a repository made for them is gone then.
        HubAccessError, HubIdError, HubConflictError: if the repository cannot be written to, or made.
    """
    RepositoryId(owner, name)
    with hub.database.write() as session:
        key = f"{owner}/{name}".lower()
        there = session.scalar(select(Repository.id).where(Repository.key == key)) is not None
        if not there:
            repositories.create(session, actor, owner, name, private=private)
    try:
        changes = [Put(path, sha256) for path, sha256 in files.items()]
        return commits.publish(hub, actor, owner, name, repositories.MAIN, changes, Message(title))
    except HubError:
        if not there:
            with hub.database.write() as session:
                repositories.remove(session, actor, repositories.find(session, actor, owner, name))
        raise
