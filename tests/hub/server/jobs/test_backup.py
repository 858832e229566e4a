"""Backups: of a hub that is published to meanwhile, restored into another one, of another kind."""

import hashlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from adapterhub.cli.app import run
from adapterhub.errors import HubConflictError, HubError
from adapterhub.hub.server import accounts, audit, blobs, commits, repositories
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.catalogue import words
from adapterhub.hub.server.catalogue.words import Texts
from adapterhub.hub.server.commits import Message, Put
from adapterhub.hub.server.database import Account, Base, Commit, Dataset, Ref, Repository, Task
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.jobs.backup import MANIFEST, Manifest, back_up
from adapterhub.hub.server.jobs.restoring import restore
from adapterhub.hub.server.jobs.scrubbing import DamageError, damage, scrub
from adapterhub.hub.server.settings import Settings
from hub.server import s3
from hub.server.conftest import person
from hub.server.postgres import Postgres, on_both
from hub.server.running import start

VOLATILE = {"upload", "piece", "rate_window", "change", "blob", "job"}


def quietly(done: float, total: float, what: str) -> None:
    return


def fill(hub: Hub, ann: Actor) -> str:
    """A repository with history, a tag and words; returns a token of its owner."""
    with hub.database.write() as session:
        repositories.create(session, ann, "ann", "sst2")
        token = accounts.new_token(session, accounts.account(session, "ann"), "laptop", "write")
        parent = session.scalars(select(Dataset).order_by(Dataset.id.desc())).first()
        first = session.scalars(select(Dataset).order_by(Dataset.id)).first()
        if first is not None and parent is not None:  # a row that refers to one that comes later
            first.parent_id = parent.id
    for number in range(3):
        publish(hub, ann, "sst2", number)
    with hub.database.write() as session:
        repository = repositories.find(session, ann, "ann", "sst2")
        repositories.add_tag(session, ann, repository, "v1", "main")
        words.put(session, repository.id, Texts("ann/sst2 sentiment", "Größe"))
    return token


def publish(hub: Hub, actor: Actor, name: str, number: int) -> None:
    changes = [Put(path, blobs.receive(hub, actor, f"{path} {number}".encode(), path)) for path in ("a.txt", "b.txt")]
    commits.publish(hub, actor, actor.name, name, "main", changes, Message(f"Change {number}"))


def rows(hub: Hub) -> dict[str, Any]:
    """All that is in the tables, in plain words."""
    with hub.database.read() as session:
        found: dict[str, Any] = {
            table.name: [tuple(row) for row in session.execute(select(table).order_by(*table.primary_key))]
            for table in Base.metadata.sorted_tables
            if table.name not in VOLATILE
        }
        found["words"] = sorted((number, tuple(map(split, texts))) for number, texts in words.all_rows(session))
        return found


def split(text: str) -> frozenset[str]:
    return frozenset(text.split())


def whole(hub: Hub) -> int:
    """The number of commits, all of whose files are there and what they say."""
    assert list(damage(hub)) == []
    with hub.database.read() as session:
        for ref in session.scalars(select(Ref)):
            assert session.get(Commit, (ref.repository_id, ref.oid)) is not None
        assert list(audit.broken(session)) == []
        return session.scalar(select(func.count()).select_from(Commit)) or 0


@pytest.fixture
def other(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Settings]:
    """An empty hub on the other kind of database."""
    server: Postgres | None = request.getfixturevalue("server")
    if server is None:
        pytest.skip("PostgreSQL is not installed")
    url = "" if request.getfixturevalue("database") else server.new()
    yield Settings(directory=tmp_path / "other", database=url)
    if url:
        server.remove(url)


@on_both
def test_what_is_restored_is_what_was_there_on_the_other_database_too(
    hub: Hub, ann: Actor, other: Settings, tmp_path: Path
) -> None:
    token = fill(hub, ann)
    made = back_up(hub, tmp_path / "backup", quietly)
    assert made.blobs == 6
    restore(tmp_path / "backup", other, quietly)
    restored = Hub.open(other)
    assert rows(restored) == rows(hub)
    assert whole(restored) == 4
    assert accounts.by_token(restored.database, token).name == "ann"
    with restored.database.read() as session:
        found = words.find(session, "größe")
        assert found is not None and len(list(found)) == 1
        in_topic = words.find(session, "größe", in_topic=True)
        assert in_topic is not None and len(list(in_topic)) == 0
    bob = person(restored, "bob")  # new rows have new numbers
    publish(restored, Actor(ann.id, "ann", "write"), "sst2", 9)
    assert bob.id not in (None, ann.id)
    restored.close()


@on_both
def test_what_is_published_meanwhile_is_whole_or_not_in_it(hub: Hub, ann: Actor, tmp_path: Path) -> None:
    fill(hub, ann)
    ended, made = threading.Event(), 0

    def go_on() -> None:
        nonlocal made
        while not ended.is_set():
            publish(hub, ann, "sst2", 100 + made)
            made += 1

    writer = threading.Thread(target=go_on)
    writer.start()
    counts = []
    for number in range(3):
        while made < 5 * (number + 1):
            ended.wait(0.01)
        back_up(hub, tmp_path / "backup", quietly)
        settings = Settings(directory=tmp_path / f"restored{number}")
        restore(tmp_path / "backup", settings, quietly)
        restored = Hub.open(settings)
        counts.append(whole(restored))
        restored.close()
    ended.set()
    writer.join()
    assert 4 < counts[0] < counts[1] < counts[2] <= made + 4


def test_the_next_backup_copies_what_is_new_alone(hub: Hub, ann: Actor, tmp_path: Path) -> None:
    fill(hub, ann)
    folder = tmp_path / "backup"
    back_up(hub, folder, quietly)
    before = {path: path.stat().st_ino for path in (folder / "blobs").rglob("*") if path.is_file()}
    publish(hub, ann, "sst2", 7)
    back_up(hub, folder, quietly)
    after = {path: path.stat().st_ino for path in (folder / "blobs").rglob("*") if path.is_file()}
    assert len(after) == len(before) + 2 and before.items() <= after.items()
    assert len(list((folder / "tables").iterdir())) == 1
    assert (folder.stat().st_mode & 0o777, (folder / MANIFEST).stat().st_mode & 0o777) == (0o700, 0o600)


@pytest.mark.parametrize("what", ["manifest", "table", "blob", "missing blob", "unfinished"])
def test_a_damaged_backup_is_refused_before_anything_changes(hub: Hub, ann: Actor, tmp_path: Path, what: str) -> None:
    fill(hub, ann)
    folder, settings = tmp_path / "backup", Settings(directory=tmp_path / "restored")
    manifest = back_up(hub, folder, quietly)
    blob = next(path for path in (folder / "blobs").rglob("*") if path.is_file())
    blob.chmod(0o644)
    if what == "manifest":
        path = folder / MANIFEST
        path.write_text(path.read_text().replace(f'"blobs": {manifest.blobs}', '"blobs": 1'))
    elif what == "table":
        path = folder / "tables" / manifest.folder / "account.jsonl"
        path.write_text(path.read_text().replace('"is_admin": false', '"is_admin": true'))
    elif what == "blob":
        blob.write_bytes(blob.read_bytes()[:-1] + b"!")
    elif what == "missing blob":
        blob.unlink()
    else:
        (folder / MANIFEST).unlink()
    with pytest.raises(HubError if what == "unfinished" else DamageError):
        restore(folder, settings, quietly)
    assert not settings.directory.exists()


def test_a_hub_with_accounts_is_not_overwritten(hub: Hub, ann: Actor, tmp_path: Path) -> None:
    fill(hub, ann)
    back_up(hub, tmp_path / "backup", quietly)
    before = rows(hub)
    with pytest.raises(HubConflictError, match="accounts"):
        restore(tmp_path / "backup", hub.settings, quietly)
    assert rows(hub) == before


def test_a_backup_of_a_damaged_store_says_so_and_the_one_before_holds(hub: Hub, ann: Actor, tmp_path: Path) -> None:
    fill(hub, ann)
    folder = tmp_path / "backup"
    made = back_up(hub, folder, quietly)
    publish(hub, ann, "sst2", 7)
    sha256 = hashlib.sha256(b"a.txt 7").hexdigest()
    path = hub.store.path(sha256)
    assert path is not None
    path.chmod(0o644)
    path.write_bytes(b"a.txt 8")
    with pytest.raises(DamageError, match=sha256):
        back_up(hub, folder, quietly)
    assert Manifest.read(folder) == made
    restore(folder, Settings(directory=tmp_path / "restored"), quietly)
    with pytest.raises(DamageError, match=sha256):
        scrub(hub, {})
    path.unlink()
    assert list(damage(hub)) == [(sha256, "missing")]


def test_a_bucket_takes_the_place_of_a_folder_and_back(hub: Hub, ann: Actor, tmp_path: Path) -> None:
    fill(hub, ann)
    back_up(hub, tmp_path / "backup", quietly)
    with s3.server() as address:
        options = s3.new_bucket(address, "hubs")
        settings = Settings(directory=tmp_path / "other", storage="s3://hubs/one", storage_options=options)
        restore(tmp_path / "backup", settings, quietly)
        restored = Hub.open(settings)
        assert whole(restored) == 4
        again = back_up(restored, tmp_path / "again", quietly)
        assert again.blobs == 6 and rows(restored) == rows(hub)
        restored.store.delete(hashlib.sha256(b"a.txt 1").hexdigest())
        with pytest.raises(DamageError):
            back_up(restored, tmp_path / "third", quietly)
        restored.close()
    restore(tmp_path / "again", Settings(directory=tmp_path / "third"), quietly)


def test_commands_while_it_serves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    running = start(tmp_path / "hub")
    running.add_user("ann")
    token = running.token("ann")
    assert run(["hub", "backup", str(tmp_path / "backup"), "--dir", str(running.folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] > 0
    running.stop()
    restoring = ["hub", "restore", str(tmp_path / "backup"), "--dir", str(tmp_path / "restored")]
    assert run(restoring) == 0
    assert run(restoring) == 1  # not over what is there
    hub = Hub.open(Settings(directory=tmp_path / "restored"))
    assert accounts.by_token(hub.database, token).name == "ann"
    with hub.database.read() as session:
        assert [one.name for one in session.scalars(select(Account))] == ["ann"]
        assert session.scalar(select(func.count()).select_from(Repository)) == 0
        assert session.scalar(select(func.count()).select_from(Task)) is not None
    hub.close()
