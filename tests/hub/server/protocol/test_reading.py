"""What is read without a change: repositories, trees, the log, and files in whole or in part."""

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from adapterhub.hub.server import repositories
from adapterhub.hub.server.git_objects import blob_id, folders, pointer
from hub.server.adapter_files import lora
from hub.server.protocol.conftest import Asked

ADAPTER = lora()
WEIGHTS = ADAPTER["adapter_model.safetensors"]
SIZE = len(WEIGHTS)
FILES = ADAPTER | {
    "README.md": b"---\ntags: [adapterhub]\npipeline_tag: text-classification\nseen: 2026-01-02\n---\n# Notes\n",
    "more/d\xc3\xa9p\xc3\xb4t.json".encode("latin-1").decode(): b"{}",
}
API = "/api/models/ann/notes"


@pytest.fixture
def published(asked: Asked) -> str:
    return asked.publish("notes", FILES).oid


def get(asked: Asked, path: str, **options: Any) -> Any:
    answer = asked.client.get(path, **options)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_repository_is_described_as_it_is_at_a_revision(asked: Asked, published: str) -> None:
    said = get(asked, API)
    assert (said["id"], said["sha"], said["private"], said["library_name"]) == (
        "ann/notes",
        published,
        False,
        "peft",
    )
    assert [one["rfilename"] for one in said["siblings"]] == sorted(FILES)
    assert said["cardData"] == {
        "tags": ["adapterhub"],
        "pipeline_tag": "text-classification",
        "seen": "2026-01-02",
    }
    assert "base_model:adapter:roberta-base" in said["tags"] and said["pipeline_tag"] == "text-classification"
    first = get(asked, f"{API}/commits/main")[-1]["id"]
    assert get(asked, f"{API}/revision/{first}")["siblings"] == []
    (large,) = [one for one in get(asked, f"{API}?blobs=True")["siblings"] if "lfs" in one]
    assert large["lfs"]["sha256"] == hashlib.sha256(WEIGHTS).hexdigest() and large["size"] == len(WEIGHTS)
    assert set(get(asked, f"{API}?expand=likes&expand=baseModels")) == {"_id", "id", "modelId", "likes", "baseModels"}


def test_trees_hold_the_ids_of_git(asked: Asked, published: str) -> None:
    top = {one["path"]: one for one in get(asked, f"{API}/tree/main")}
    assert set(top) == {"README.md", "adapter_config.json", "adapter_model.safetensors", "more"}
    assert top["README.md"]["oid"] == blob_id(FILES["README.md"])
    sha256 = hashlib.sha256(WEIGHTS).hexdigest()
    text = pointer(sha256, len(WEIGHTS))
    assert top["adapter_model.safetensors"]["oid"] == blob_id(text)
    assert top["adapter_model.safetensors"]["lfs"] == {"oid": sha256, "size": len(WEIGHTS), "pointerSize": len(text)}
    with asked.hub.database.read() as session:
        repository = repositories.find(session, asked.actor("ann"), "ann", "notes")
        files = repositories.files(repositories.revision(session, repository, published))
    assert (top["more"]["type"], top["more"]["oid"]) == ("directory", folders(files)["more"])
    everything = [one["path"] for one in get(asked, f"{API}/tree/refs%2Fheads%2Fmain?recursive=True")]
    assert everything == sorted([*FILES, "more"])
    assert [one["path"] for one in get(asked, f"{API}/tree/{published}/more")] == ["more/dépôt.json"]
    missing = asked.client.get(f"{API}/tree/main/less")
    assert (missing.status_code, missing.headers["x-error-code"]) == (404, "EntryNotFound")
    assert missing.headers["x-repo-commit"] == published


def test_paths_are_looked_up_and_tell_their_last_commit(asked: Asked, published: str) -> None:
    later = asked.publish("notes", {"more/two.txt": b"2"}).oid
    form = {"paths": ["README.md", "more", "less"], "expand": "True"}
    answer = asked.client.post(f"{API}/paths-info/main", data=form)
    assert {one["path"]: one["lastCommit"]["id"] for one in answer.json()} == {"README.md": published, "more": later}
    tree = get(asked, f"{API}/tree/main?recursive=true&expand=true")
    assert {one["path"] for one in tree if one["lastCommit"]["id"] == later} == {"more", "more/two.txt"}


def test_branches_tags_and_the_log(asked: Asked, published: str) -> None:
    ann = asked.as_("ann")
    assert asked.client.post(f"{API}/branch/a%2Fb", headers=ann).status_code == 200
    assert asked.client.post(f"{API}/branch/a%2Fb", headers=ann, json={}).status_code == 409
    made = asked.client.post(f"{API}/tag/main", headers=ann, json={"tag": "v1", "message": "first"})
    assert made.status_code == 200
    refs = get(asked, f"{API}/refs")
    assert {one["ref"] for one in refs["branches"]} == {"refs/heads/main", "refs/heads/a/b"}
    assert refs["tags"] == [{"name": "v1", "ref": "refs/tags/v1", "targetCommit": published}]
    assert refs["converts"] == []
    for number in range(102):
        asked.publish("notes", {"n.txt": str(number).encode()})
    first = asked.client.get(f"{API}/commits/main")
    assert len(first.json()) == 100
    asked.publish("notes", {"n.txt": b"meanwhile"})
    url = first.headers["link"].partition(">")[0].removeprefix("<")
    assert url.startswith("http://hub.test/")
    log = first.json() + get(asked, url)
    assert len(log) == 104 and log[-2]["id"] == published and log[0]["authors"] == [{"user": "ann"}]
    assert asked.client.delete(f"{API}/branch/a%2Fb", headers=ann).status_code == 200
    assert asked.client.delete(f"{API}/tag/v1", headers=ann).status_code == 200
    assert asked.client.delete(f"{API}/tag/v1", headers=ann).headers["x-error-code"] == "RevisionNotFound"


def test_files_have_the_headers_that_clients_check(asked: Asked, published: str) -> None:
    text = asked.client.get("/ann/notes/resolve/main/README.md")
    assert text.content == FILES["README.md"]
    assert text.headers["etag"] == f'"{blob_id(FILES["README.md"])}"'
    assert text.headers["x-repo-commit"] == published and text.headers["cache-control"] == "public, no-cache"
    assert text.headers["content-disposition"].startswith("attachment") and "content-encoding" not in text.headers
    weights = asked.client.head(f"/Ann/Notes/resolve/{published}/adapter_model.safetensors")
    assert weights.headers["etag"] == f'"{hashlib.sha256(WEIGHTS).hexdigest()}"' and not weights.content
    assert weights.headers["content-length"] == str(len(WEIGHTS)) and "immutable" in weights.headers["cache-control"]
    named = asked.client.get("/ann/notes/resolve/main/more/d%C3%A9p%C3%B4t.json")
    assert named.content == b"{}" and "filename*=UTF-8''d%C3%A9p" in named.headers["content-disposition"]


@pytest.mark.parametrize(
    ("asked_for", "status", "start", "end"),
    [
        ("bytes=10-", 206, 10, SIZE),
        ("bytes=0-9", 206, 0, 10),
        ("bytes=-5", 206, SIZE - 5, SIZE),
        ("bytes=200-9999999", 206, 200, SIZE),
        (f"bytes={SIZE}-", 416, 0, 0),
    ],
)
@pytest.mark.parametrize("store", ["folder", "stream"])
def test_parts_of_files(
    asked: Asked, monkeypatch: pytest.MonkeyPatch, asked_for: str, status: int, start: int, end: int, store: str
) -> None:
    asked.publish("notes", FILES)
    if store == "stream":
        monkeypatch.setattr(asked.hub.store, "path", lambda sha256: None)
    answer = asked.client.get("/ann/notes/resolve/main/adapter_model.safetensors", headers={"Range": asked_for})
    assert answer.status_code == status
    if status == 206:
        assert answer.content == WEIGHTS[start:end]
        assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(WEIGHTS)}"
        assert answer.headers["content-length"] == str(end - start)
    else:
        assert answer.headers["content-range"] == f"bytes */{len(WEIGHTS)}"


@pytest.mark.usefixtures("published")
def test_what_is_known_already_is_not_sent(asked: Asked) -> None:
    etag = asked.client.head("/ann/notes/resolve/main/README.md").headers["etag"]
    for known in (etag, f'"other", W/{etag}', "*"):
        answer = asked.client.get("/ann/notes/resolve/main/README.md", headers={"If-None-Match": known})
        assert (answer.status_code, answer.content) == (304, b"")
    assert asked.client.get("/ann/notes/resolve/main/README.md", headers={"If-None-Match": '"x"'}).status_code == 200


@pytest.mark.usefixtures("published")
def test_a_store_with_links_is_where_the_bytes_are(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked.hub.store, "link", lambda sha256, filename, seconds: f"http://store.test/{sha256}?signed")
    for method in ("GET", "HEAD"):
        answer = asked.client.request(
            method, "/ann/notes/resolve/main/adapter_model.safetensors", follow_redirects=False
        )
        sha256 = hashlib.sha256(WEIGHTS).hexdigest()
        assert (answer.status_code, answer.headers["location"]) == (307, f"http://store.test/{sha256}?signed")
        assert answer.headers["x-linked-etag"] == f'"{sha256}"' and answer.headers["x-linked-size"] == str(SIZE)
        assert len(answer.headers["x-repo-commit"]) == 40


def test_nginx_may_send_the_bytes(ask: Callable[..., Asked]) -> None:
    asked = ask(accel="/protected/")
    asked.publish("notes", FILES)
    answer = asked.client.get("/ann/notes/resolve/main/adapter_model.safetensors")
    sha256 = hashlib.sha256(WEIGHTS).hexdigest()
    assert answer.headers["x-accel-redirect"] == f"/protected/{sha256[:2]}/{sha256[2:4]}/{sha256}"
    head = asked.client.head("/ann/notes/resolve/main/adapter_model.safetensors")
    assert head.headers["content-length"] == str(SIZE) and "x-accel-redirect" not in head.headers


def test_errors_say_in_headers_what_is_missing(asked: Asked, published: str) -> None:
    asked.publish("hidden", FILES, private=True)
    cases = {
        "/ann/notes/resolve/main/none.json": "EntryNotFound",
        "/ann/notes/resolve/none/README.md": "RevisionNotFound",
        "/ann/notes/resolve/%00/README.md": "RevisionNotFound",
        "/ann/none/resolve/main/README.md": "RepoNotFound",
        "/ann/%00/resolve/main/README.md": "RepoNotFound",
        "/ann/hidden/resolve/main/README.md": "RepoNotFound",
        "/api/models/ann/hidden": "RepoNotFound",
        "/api/models/ann/notes/revision/none": "RevisionNotFound",
    }
    for path, code in cases.items():
        answer = asked.client.get(path, headers=asked.as_("bob"))
        assert (answer.status_code, answer.headers["x-error-code"]) == (404, code), path
        assert answer.headers["x-error-message"]
    stranger = {"Authorization": "Bearer hf_somebodys"}
    assert asked.client.get("/ann/notes/resolve/main/README.md", headers=stranger).status_code == 200
    assert asked.client.get("/ann/notes/resolve/main/none.json").headers["x-repo-commit"] == published
    assert asked.client.get("/ann/hidden/resolve/main/README.md", headers=asked.as_("ann")).status_code == 200
    private = asked.client.get("/ann/hidden/resolve/main/README.md", headers=asked.as_("ann"))
    assert private.headers["cache-control"].startswith("private")
    assert asked.client.get(f"{API}/auth-check/write").status_code == 401
    assert asked.client.get(f"{API}/auth-check/write", headers=asked.as_("bob")).status_code == 403
    assert asked.client.get(f"{API}/auth-check/write", headers=asked.as_("ann")).status_code == 200
    assert asked.client.get(f"{API}/auth-check").status_code == 200


@pytest.mark.usefixtures("published")
def test_downloads_of_weights_are_counted_once(asked: Asked) -> None:
    weights = "/ann/notes/resolve/main/adapter_model.safetensors"
    for headers in ({}, {"Range": "bytes=0-99"}, {"Range": "bytes=100-"}, {"If-None-Match": "*"}):
        asked.client.get(weights, headers=headers)
    asked.client.head(weights)
    asked.client.get("/ann/notes/resolve/main/README.md")
    assert get(asked, API)["downloads"] == 0
    asked.client.app.state.downloads.flush()  # type: ignore[attr-defined]
    assert get(asked, API)["downloads"] == 2
