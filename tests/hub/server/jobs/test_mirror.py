"""Copies of adapters of another hub, which is a process of its own."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from sqlalchemy import select

from adapterhub.errors import HubAccessError, HubUnreachableError
from adapterhub.hub.server import mirrors, repositories
from adapterhub.hub.server.actor import STRANGER, Actor
from adapterhub.hub.server.database import Commit, Mirrored
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.jobs import mirror as job
from adapterhub.hub.server.jobs import queue
from adapterhub.hub.server.settings import Settings
from hub.server.running import Running, run


@pytest.fixture(scope="module")
def api(running: Running) -> HfApi:
    made = HfApi(running.url, token=running.token("ann"))
    for name in ("sst2", "sst5", "nli"):
        made.create_repo(f"ann/{name}")
        upload(made, f"ann/{name}", "README.md", b"# A card\n")
    return made


@pytest.fixture
def here(running: Running, tmp_path: Path) -> Iterator[Hub]:
    """An empty hub that may mirror the other one."""
    hub = Hub.open(Settings(directory=tmp_path / "here", mirror_upstreams=[running.url]))
    yield hub
    hub.close()


def upload(api: HfApi, name: str, path: str, data: bytes, **more: str) -> str:
    return str(api.upload_file(path_or_fileobj=data, path_in_repo=path, repo_id=name, **more).oid)


def add(hub: Hub, upstream: str, pattern: str, into: str | None = None) -> int:
    with hub.database.write() as session:
        return mirrors.add(session, hub.settings, STRANGER, upstream, pattern, into).id


def refresh(hub: Hub, number: int) -> dict[str, str]:
    told: dict[str, str] = {}
    job.refresh(hub, number, told.__setitem__)
    return told


def texts(hub: Hub, name: str, revision: str = "main") -> dict[str, str]:
    with hub.database.read() as session:
        repository = repositories.find(session, Actor(1, "x", is_admin=True), *name.split("/"))
        found = repositories.files(repositories.revision(session, repository, revision))
        return {path: hub.store.open(one.sha256).read().decode() for path, one in found.items()}


def mirrored(hub: Hub, name: str) -> Mirrored:
    with hub.database.read() as session:
        return session.scalars(select(Mirrored).where(Mirrored.name == name)).one()


def test_what_is_new_is_copied_and_no_more(
    running: Running, api: HfApi, here: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = add(here, running.url, "ann/sst*")
    assert refresh(here, number) == {"ann/sst2": "copied", "ann/sst5": "copied"}
    assert texts(here, "ann/sst2") == {"README.md": "# A card\n"}
    assert refresh(here, number) == {"ann/sst2": "unchanged", "ann/sst5": "unchanged"}
    api.create_tag("ann/sst2", tag="v1")
    second = upload(api, "ann/sst2", "notes.txt", b"more")
    api.create_branch("ann/sst2", branch="trial")
    upload(api, "ann/sst2", "README.md", b"# Another\n", revision="trial")
    fetched: list[str] = []
    whole: Callable[..., str] = HfApi.hf_hub_download

    def watched(self: HfApi, name: str, path: str, **more: str) -> str:
        fetched.append(path)
        return whole(self, name, path, **more)

    monkeypatch.setattr(HfApi, "hf_hub_download", watched)
    assert refresh(here, number) == {"ann/sst2": "copied", "ann/sst5": "unchanged"}
    assert fetched == ["notes.txt", "README.md"]
    assert texts(here, "ann/sst2") == {"README.md": "# A card\n", "notes.txt": "more"}
    assert texts(here, "ann/sst2", "v1") == {"README.md": "# A card\n"}
    assert texts(here, "ann/sst2", "trial") == {"README.md": "# Another\n", "notes.txt": "more"}
    there, oid = mirrored(here, "ann/sst2").refs["branch/main"]
    with here.database.read() as session:
        commit = session.scalars(select(Commit).where(Commit.oid == oid)).one()
        assert there == second and f"/ann/sst2/commit/{second}" in commit.message
        repository = repositories.find(session, STRANGER, "ann", "sst2")
        refs = {(one.kind, one.name) for one in repositories.refs(session, repository)}
    assert refs == {("branch", "main"), ("branch", "trial"), ("tag", "v1")}
    api.delete_file("notes.txt", "ann/sst2")
    refresh(here, number)
    assert texts(here, "ann/sst2") == {"README.md": "# A card\n"}


def test_what_may_not_be_here_is_left_out_and_told(
    running: Running, api: HfApi, here: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our own hubs take no pickles: the other one is made to look as if it had some."""
    from huggingface_hub.hf_api import RepoFile

    whole = HfApi.list_repo_tree

    def with_more(self: HfApi, *args: object, **more: object) -> Iterator[object]:
        yield from whole(self, *args, **more)  # type: ignore[arg-type]
        for path in ("pytorch_adapter.bin", "../../etc/passwd", "run.py", "a/.git/config"):
            yield RepoFile(path=path, size=10, oid="0" * 40)
        yield RepoFile(path="huge.safetensors", size=1 << 40, oid="0" * 40)

    monkeypatch.setattr(HfApi, "list_repo_tree", with_more)
    assert refresh(here, add(here, running.url, "ann/nli")) == {"ann/nli": "copied"}
    assert texts(here, "ann/nli") == {"README.md": "# A card\n"}
    skipped = mirrored(here, "ann/nli").skipped
    assert set(skipped) == {"pytorch_adapter.bin", "../../etc/passwd", "run.py", "a/.git/config", "huge.safetensors"}
    assert "pickle" in skipped["pytorch_adapter.bin"]


def test_other_hubs_and_other_peoples_names_are_not_touched(running: Running, api: HfApi, here: Hub) -> None:
    with pytest.raises(HubAccessError, match="may be mirrored"):
        add(here, "http://169.254.169.254", "ann/sst2")
    number = add(here, running.url, "ann/sst2")
    with here.database.write() as session:
        from adapterhub.hub.server import accounts

        user = accounts.actor(accounts.add_user(session, "ann", None))
    assert "is a user here" in refresh(here, number)["ann/sst2"]
    with here.database.write() as session:
        mine = repositories.create(session, user, "ann", "sst2")
    other = add(here, running.url, "ann/sst2", into="ann")
    assert "no copy of this mirror" in refresh(here, other)["ann/sst2"]
    with here.database.read() as session:
        assert repositories.find(session, user, "ann", "sst2").id == mine.id
    assert texts(here, "ann/sst2") == {}


def test_private_stays_private_and_the_token_is_for_its_hub_alone(
    running: Running, api: HfApi, here: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.create_repo("ann/hidden", private=True)
    monkeypatch.setenv("HF_TOKEN", running.token("ann"))  # whose it is that runs the hub says nothing
    assert "not copied" in refresh(here, add(here, running.url, "ann/hidden"))["ann/hidden"]
    with_token = here.settings.model_copy(
        update={"mirror_tokens": Settings(mirror_tokens={running.url: running.token("ann")}).mirror_tokens}
    )
    known = Hub(with_token, here.database, here.store, here.key)
    assert refresh(known, add(known, running.url, "ann/hidden")) == {"ann/hidden": "copied"}
    assert "ah_" not in repr(with_token) and "ah_" not in str(with_token.model_dump())
    with here.database.read() as session, pytest.raises(LookupError):
        repositories.find(session, STRANGER, "ann", "hidden")


def test_a_hub_that_is_away_is_told_and_tried_again(here: Hub, running: Running) -> None:
    number = add(here, running.url, "ann/sst2")
    here.settings.mirror_upstreams.append("http://127.0.0.1:9")
    gone = add(here, "http://127.0.0.1:9", "ann/sst2")
    with pytest.raises(HubUnreachableError):
        refresh(here, gone)
    with here.database.read() as session:
        assert {one.id: bool(one.error) for one, _ in mirrors.all_of(session)} == {number: False, gone: True}
    mirrors.queue_all(here, {})
    mirrors.queue_all(here, {})
    taken = [queue.take(here.database, [mirrors.REFRESH]) for _ in range(3)]
    assert sorted(one.arguments["mirror"] for one in taken if one) == [number, gone]


def test_commands(running: Running, api: HfApi, tmp_path: Path) -> None:
    where = ("--dir", str(tmp_path / "hub"), "--json")
    allowed = {"ADAPTERHUB_MIRROR_UPSTREAMS": json.dumps([running.url])}
    made = json.loads(run("hub", "mirror", "add", running.url, "?sst5", *where, **allowed))
    told = json.loads(run("hub", "mirror", "refresh", str(made["id"]), *where, **allowed))
    assert {"name": "ann/sst5", "outcome": "copied"} in told
    (listed,) = json.loads(run("hub", "mirror", "list", *where))
    assert "ann/sst5" in [one["name"] for one in listed["repositories"]]
    run("hub", "mirror", "remove", str(made["id"]), *where)
    assert json.loads(run("hub", "mirror", "list", *where)) == []
