"""Publishing: whole commits or none, whatever happens at the same time."""

import json
import threading
from itertools import islice
from pathlib import Path

import pytest
from sqlalchemy import event, select, update
from sqlalchemy.orm import Session

from adapterhub.errors import HubAccessError, HubConflictError, UploadRefusedError
from adapterhub.hub.inspecting import formats
from adapterhub.hub.server import blobs, commits, repositories
from adapterhub.hub.server.actor import STRANGER, Actor
from adapterhub.hub.server.commits import Message, Put, Remove
from adapterhub.hub.server.database import Commit, Ref, Repository
from adapterhub.hub.server.errors import (
    EntryNotFoundError,
    NotSignedInError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    StaleParentError,
    TooLargeError,
)
from adapterhub.hub.server.hub import Hub
from hub.server.adapter_files import lora
from hub.server.postgres import on_both


@pytest.fixture
def notes(hub: Hub, ann: Actor) -> None:
    with hub.database.write() as session:
        repositories.create(session, ann, "ann", "notes")


def put(hub: Hub, actor: Actor, path: str, text: str) -> Put:
    return Put(path, blobs.receive(hub, actor, text.encode(), path))


def publish(hub: Hub, actor: Actor, *changes: Put | Remove, branch: str = "main", parent: str | None = None) -> Commit:
    return commits.publish(hub, actor, "ann", "notes", branch, changes, Message("Change"), parent=parent)


def texts(hub: Hub, actor: Actor, revision: str = "main") -> dict[str, str]:
    with hub.database.read() as session:
        commit = repositories.revision(session, repositories.find(session, actor, "ann", "notes"), revision)
        return {path: hub.store.open(one.sha256).read().decode() for path, one in repositories.files(commit).items()}


@pytest.mark.usefixtures("notes")
def test_files_are_put_changed_and_removed_and_old_commits_stay(hub: Hub, ann: Actor) -> None:
    first = publish(hub, ann, put(hub, ann, "a.txt", "1"), put(hub, ann, "b/c.txt", "2"), put(hub, ann, "b/d.txt", "3"))
    second = publish(hub, ann, put(hub, ann, "a.txt", "4"), Remove("b", folder=True))
    assert texts(hub, STRANGER) == {"a.txt": "4"}
    assert texts(hub, STRANGER, first.oid) == {"a.txt": "1", "b/c.txt": "2", "b/d.txt": "3"}
    with hub.database.read() as session:
        log = repositories.history(session, repositories.find(session, ann, "ann", "notes"), second)
        assert [one.oid for one in log][:2] == [second.oid, first.oid]


@pytest.mark.usefixtures("notes")
def test_nothing_new_is_no_commit(hub: Hub, ann: Actor) -> None:
    first = publish(hub, ann, put(hub, ann, "a.txt", "1"))
    assert publish(hub, ann, put(hub, ann, "a.txt", "1")).oid == first.oid


@pytest.mark.usefixtures("notes")
def test_of_two_who_name_the_same_parent_one_is_first(hub: Hub, ann: Actor) -> None:
    parent = publish(hub, ann, put(hub, ann, "a.txt", "1")).oid
    publish(hub, ann, put(hub, ann, "a.txt", "2"), parent=parent)
    with pytest.raises(StaleParentError, match=parent):
        publish(hub, ann, put(hub, ann, "a.txt", "3"), parent=parent)
    assert texts(hub, ann) == {"a.txt": "2"}


@pytest.mark.usefixtures("notes")
def test_many_at_once_lose_nothing(hub: Hub, ann: Actor) -> None:
    changes = [put(hub, ann, f"{number}.txt", str(number)) for number in range(12)]
    threads = [threading.Thread(target=publish, args=(hub, ann, change)) for change in changes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts(hub, ann) == {f"{number}.txt": str(number) for number in range(12)}


@pytest.mark.usefixtures("notes")
def test_to_know_a_sha256_is_not_to_have_the_bytes(hub: Hub, ann: Actor, bob: Actor) -> None:
    secret = put(hub, ann, "a.txt", "mine")
    publish(hub, ann, secret)
    with hub.database.write() as session:
        repositories.create(session, bob, "bob", "notes")
    with pytest.raises(UploadRefusedError, match="upload them first"):
        commits.publish(hub, bob, "bob", "notes", "main", [secret], Message("Steal"))
    publish(hub, ann, Remove("a.txt"))
    publish(hub, ann, Put("again.txt", secret.sha256))  # the repository has had it
    assert texts(hub, ann) == {"again.txt": "mine"}


@pytest.mark.usefixtures("notes")
def test_who_may_not_and_what_is_not_there(hub: Hub, ann: Actor, bob: Actor) -> None:
    with pytest.raises(NotSignedInError):
        publish(hub, STRANGER, Remove("a.txt"))
    with pytest.raises(HubAccessError, match="bob may not change the adapters of ann"):
        publish(hub, bob, put(hub, bob, "a.txt", "1"))
    with pytest.raises(HubAccessError, match="for 'read'"):
        publish(hub, Actor(ann.id, "ann", "read"), Remove("a.txt"))
    with pytest.raises(EntryNotFoundError):
        publish(hub, ann, Remove("a.txt"))
    with pytest.raises(RevisionNotFoundError):
        publish(hub, ann, put(hub, ann, "a.txt", "1"), branch="other")
    assert texts(hub, ann) == {}


@pytest.mark.usefixtures("notes")
def test_a_private_repository_is_not_there_for_others(hub: Hub, ann: Actor, bob: Actor) -> None:
    with hub.database.write() as session:
        repositories.set_private(session, ann, repositories.find(session, ann, "ann", "notes"), True)
    for actor in (bob, STRANGER):
        with pytest.raises(RepositoryNotFoundError) as private, hub.database.read() as session:
            repositories.find(session, actor, "ann", "notes")
        with pytest.raises(RepositoryNotFoundError) as missing, hub.database.read() as session:
            repositories.find(session, actor, "ann", "other")
        assert str(private.value).replace("notes", "other") == str(missing.value)
    assert texts(hub, ann) == {}


@pytest.mark.usefixtures("notes")
def test_branches_tags_and_other_names(hub: Hub, ann: Actor, bob: Actor) -> None:
    first = publish(hub, ann, put(hub, ann, "a.txt", "1"))
    with hub.database.write() as session:
        repository = repositories.find(session, ann, "ann", "notes")
        repositories.add_tag(session, ann, repository, "v1", "main")
        repositories.add_branch(session, ann, repository, "next", "v1")
        with pytest.raises(HubConflictError):
            repositories.add_tag(session, ann, repository, "v1", "main")
        with pytest.raises(HubConflictError, match="main branch"):
            repositories.remove_ref(session, ann, repository, "branch", "main")
    publish(hub, ann, put(hub, ann, "a.txt", "2"), branch="next")
    publish(hub, ann, put(hub, ann, "a.txt", "3"))
    assert [texts(hub, ann, one)["a.txt"] for one in ("v1", "next", "main", first.oid)] == ["1", "2", "3", "1"]
    with hub.database.write() as session:
        repositories.move(session, ann, repositories.find(session, ann, "ann", "notes"), "ann", "papers")
    with hub.database.write() as session:
        assert repositories.find(session, bob, "ann", "notes").name == "papers"
        repositories.remove(session, ann, repositories.find(session, ann, "ann", "papers"))
    with pytest.raises(RepositoryNotFoundError), hub.database.read() as session:
        repositories.find(session, ann, "ann", "notes")
    with hub.database.write() as session:
        repositories.create(session, ann, "ann", "papers")


def test_more_than_an_account_may_hold(tmp_path: Path, ann: Actor, hub: Hub) -> None:
    small = Hub(hub.settings.model_copy(update={"quota_bytes": 10, "max_file_bytes": 8}), hub.database, hub.store, "")
    with hub.database.write() as session:
        repositories.create(session, ann, "ann", "notes")
    with pytest.raises(TooLargeError, match="8 bytes"):
        put(small, ann, "a.txt", "123456789")
    publish(small, ann, put(small, ann, "a.txt", "1234567"))
    with pytest.raises(TooLargeError, match="may have 10"):
        publish(small, ann, put(small, ann, "b.txt", "12345678"[:5]))
    assert not list(hub.uploads.iterdir())


@on_both
def test_a_long_history_is_asked_for_in_few_questions(hub: Hub, ann: Actor, bob: Actor) -> None:
    with hub.database.write() as session:
        for actor in (ann, bob):
            made = repositories.create(session, actor, actor.name, "notes")
        for number in range(120):
            head = repositories.add_commit(session, made, {}, made_oid(session, made), bob, f"{number}")
            session.execute(update(Ref).where(Ref.repository_id == made.id).values(oid=head.oid))
    asked: list[str] = []
    event.listen(hub.database.engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    with hub.database.read() as session:
        repository = repositories.find(session, bob, "bob", "notes")
        head = repositories.revision(session, repository, "main")
        asked.clear()
        log = repositories.history(session, repository, head)
        assert [one.title for one in islice(log, 40)] == [str(number) for number in range(119, 79, -1)]
        assert len(asked) == 1
        assert [one.title for one in log] == [*(str(number) for number in range(79, -1, -1)), "initial commit"]
        assert len(asked) == 3


def made_oid(session: Session, repository: Repository) -> str:
    return session.scalars(select(Ref.oid).where(Ref.repository_id == repository.id)).one()


def test_values_that_were_looked_through_are_not_again(hub: Hub, ann: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    monkeypatch.setattr(formats, "check_finite", lambda file, found: looked.append(found.where))

    def push(**files: bytes) -> Commit:
        changes = [Put(path, blobs.receive(hub, ann, data, path)) for path, data in files.items()]
        return commits.publish(hub, ann, "ann", "notes", "main", changes, Message("Change"))

    with hub.database.write() as session:
        repositories.create(session, ann, "ann", "notes")
    made, other = lora(), lora(rank=4)
    weights = {"adapter_model.safetensors": made["adapter_model.safetensors"]}
    push(**weights)
    assert looked == []  # they are of no adapter yet
    info = push(**{"adapter_config.json": made["adapter_config.json"]}).info
    assert looked == list(weights)
    assert push(**{"README.md": made["README.md"]}).info == info
    changed = json.loads(made["adapter_config.json"]) | {"lora_alpha": 9}
    assert push(**{"adapter_config.json": json.dumps(changed).encode()}).info["config"]["lora_alpha"] == 9
    assert looked == list(weights)  # nor where the configuration has changed: that alone is read anew
    with pytest.raises(UploadRefusedError, match="with r = 4"):
        push(**{"adapter_config.json": other["adapter_config.json"]})
    assert push(**{path: other[path] for path in ("adapter_config.json", *weights)}).info["rank"] == 4
    assert looked == [*weights, *weights]
