"""The whole catalogue read anew from the files, as after a change of the taxonomy."""

from sqlalchemy import select

from adapterhub.errors import UploadRefusedError
from adapterhub.hub.server import admission, policy, repositories
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.catalogue import indexing
from adapterhub.hub.server.database import Commit, Ref, Repository
from adapterhub.hub.server.hub import Hub


def reindex(hub: Hub, actor: Actor) -> dict[str, str]:
    """Index the main branch of every repository again; those that would be refused by now, and why.

    They stay in the catalogue as they were.

    Raises:
        HubAccessError: for who does not administer the server.
    """
    policy.check_server_admin(actor)
    refused = {}
    with hub.database.read() as session:
        wanted = select(Ref.repository_id, Ref.oid).where(Ref.kind == "branch", Ref.name == repositories.MAIN)
        heads = session.execute(wanted).tuples().all()
    for repository_id, oid in heads:
        with hub.database.read() as session:
            repository = session.get(Repository, repository_id)
            commit = session.get(Commit, (repository_id, oid))
        if repository is not None and commit is not None:
            try:
                _index(hub, actor, repository_id, commit)
            except UploadRefusedError as error:
                refused[repository.full_name] = str(error)
    return refused


def _index(hub: Hub, actor: Actor, repository_id: int, commit: Commit) -> None:
    findings = admission.examine(hub, {}, repositories.files(commit))
    with hub.database.write() as session:
        repository = session.get(Repository, repository_id)
        head = session.get(Ref, (repository_id, "branch", repositories.MAIN))
        if repository is not None and head is not None and head.oid == commit.oid:  # else a commit came in between
            indexing.index(session, actor, repository, session.get_one(Commit, (repository_id, commit.oid)), findings)
