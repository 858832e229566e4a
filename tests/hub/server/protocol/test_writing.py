"""What changes something: repositories, files, commits."""

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from adapterhub.hub.server import accounts
from adapterhub.hub.server.database import Upload
from adapterhub.hub.server.git_objects import blob_id
from hub.server.adapter_files import lora
from hub.server.protocol.conftest import Asked

API = "/api/models/ann/notes"
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def notes(asked: Asked) -> None:
    asked.publish("notes", {"README.md": b"# Notes\n"})


def line(key: str, **value: Any) -> bytes:
    return json.dumps({"key": key, "value": value}).encode() + b"\n"


def header(**value: Any) -> bytes:
    return line("header", **{"summary": "Change", "description": ""} | value)


def file(path: str, data: bytes) -> bytes:
    return line("file", content=base64.b64encode(data).decode(), path=path, encoding="base64")


def commit(asked: Asked, *lines: bytes, user: str | None = "ann", rev: str = "main", query: str = "") -> Any:
    headers = {"Content-Type": "application/x-ndjson"} | ({} if user is None else asked.as_(user))
    return asked.client.post(f"{API}/commit/{rev}{query}", content=b"".join(lines), headers=headers)


def content(asked: Asked, path: str, rev: str = "main") -> bytes | None:
    answer = asked.client.get(f"/ann/notes/resolve/{rev}/{path}")
    return answer.content if answer.status_code == 200 else None


def post(asked: Asked, path: str, body: Any, user: str | None = "ann", method: str = "POST") -> Any:
    return asked.client.request(method, path, json=body, headers={} if user is None else asked.as_(user))


def test_who_has_a_token(asked: Asked) -> None:
    with asked.hub.database.write() as session:
        ann = accounts.account(session, "ann")
        accounts.add_organisation(session, "lab", ann.id)
    said = asked.client.get("/api/whoami-v2", headers=asked.as_("ann")).json()
    assert (said["name"], said["type"]) == ("ann", "user")
    assert [(one["name"], one["roleInOrg"]) for one in said["orgs"]] == [("lab", "admin")]
    assert said["auth"]["accessToken"]["displayName"] == "test" and said["auth"]["accessToken"]["role"] == "write"
    for headers in ({}, {"Authorization": "Bearer hf_other"}):
        assert asked.client.get("/api/whoami-v2", headers=headers).status_code == 401


def test_repositories_are_made_moved_hidden_and_deleted(asked: Asked) -> None:
    made = post(asked, "/api/repos/create", {"name": "notes", "organization": None, "private": False})
    assert (made.status_code, made.json()["url"]) == (200, "http://hub.test/ann/notes")
    again = post(asked, "/api/repos/create", {"name": "Notes", "type": "model", "visibility": "private"})
    assert (again.status_code, again.json()["url"]) == (409, "http://hub.test/ann/notes")
    for body, user, status in (
        ({"name": "a--b"}, "ann", 400),
        ({"name": "x"}, None, 401),
        ({"name": "x", "organization": "ann"}, "bob", 403),
        ({"name": "x", "organization": "nobody"}, "ann", 404),
        ({"name": "x", "type": "dataset"}, "ann", 501),
    ):
        assert post(asked, "/api/repos/create", body, user).status_code == status, body
    assert post(asked, f"{API}/settings", {"visibility": "private"}, method="PUT").json()["private"]
    assert asked.client.get(API).status_code == 404
    assert post(asked, f"{API}/settings", {"private": False}, method="PUT").status_code == 200
    assert post(asked, f"{API}/settings", {"gated": "auto"}, method="PUT").headers["x-error-code"] == "NotImplemented"
    move = {"fromRepo": "ann/notes", "toRepo": "ann/papers", "type": "model"}
    assert post(asked, "/api/repos/move", move, "bob").status_code == 403
    assert post(asked, "/api/repos/move", move).status_code == 200
    assert asked.client.get(API).json()["id"] == "ann/papers"
    gone = {"name": "papers", "organization": "ann", "type": "model"}
    assert post(asked, "/api/repos/delete", gone, "bob", method="DELETE").status_code == 403
    assert post(asked, "/api/repos/delete", gone, method="DELETE").status_code == 200
    assert asked.client.get(API).headers["x-error-code"] == "RepoNotFound"


@pytest.mark.usefixtures("notes")
def test_files_come_in_a_commit_and_go(asked: Asked) -> None:
    adapter = lora(rank=16, size=256)
    data = adapter.pop("adapter_model.safetensors")
    answer = commit(asked, header(description="with more"), file("a/data.json", b"[1]"), file(WEIGHTS, data))
    assert answer.status_code == 200, answer.text
    oid = answer.json()["commitOid"]
    assert answer.json()["commitUrl"] == f"http://hub.test/ann/notes/commit/{oid}" and len(oid) == 40
    assert content(asked, "a/data.json", oid) == b"[1]" and content(asked, WEIGHTS) == data
    log = asked.client.get(f"{API}/commits/main").json()
    assert (log[0]["title"], log[0]["message"]) == ("Change", "with more")
    sha256 = hashlib.sha256(data).hexdigest()
    copy = line("lfsFile", path=f"old/{WEIGHTS}", algo="sha256", oid=sha256)
    assert commit(asked, header(), copy, line("deletedFile", path=WEIGHTS)).status_code == 200
    assert content(asked, f"old/{WEIGHTS}") == data and content(asked, WEIGHTS) is None
    assert commit(asked, header(), line("deletedFolder", path="a/")).status_code == 200
    assert content(asked, "a/data.json") is None and content(asked, "README.md") == b"# Notes\n"


@pytest.mark.usefixtures("notes")
def test_the_same_again_is_no_new_commit(asked: Asked) -> None:
    parent = asked.client.get(API).json()["sha"]
    body = (header(parentCommit=parent), file("a.json", b"1"), line("deletedFile", path="README.md"))
    first = commit(asked, *body).json()["commitOid"]
    assert commit(asked, *body).json()["commitOid"] == first  # the answer was lost, and the client sends it again
    assert commit(asked, header(), file("a.json", b"1")).json()["commitOid"] == first
    stale = commit(asked, header(parentCommit=parent), file("a.json", b"2"))
    assert (stale.status_code, content(asked, "a.json")) == (412, b"1")


@pytest.mark.usefixtures("notes")
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"none", 400),
        (b'{"key": "header"}\n', 400),
        (b'{"key": 1, "value": {}}\n', 400),
        (header() + b"[" * 60000 + b"\n", 400),
        (header() + b" " * 70000 + b"\n", 400),
        (file("a.json", b"1"), 400),
        (header(parentCommit=1) + file("a.json", b"1"), 400),
        (header(summary=["no text"]), 400),
        (header() + b'{"key": "file", "value": {"content": "AA=', 400),
        (header() + line("file", content="no base64!", path="a.json", encoding="base64"), 400),
        (header() + line("file", content="AA==AAAA", path="a.json", encoding="base64"), 400),
        (header() + line("file", content="AAAA" * 50000 + "AA==" + "AAAA" * 50000, path="a.json"), 400),
        (header() + line("file", content="AAAA", path="a.json", encoding="utf-8"), 400),
        (header() + line("file", path="a.json", encoding="base64"), 400),
        (header() + b'{"key": "file", "value": {"conten\\u0074": "' + b"0" * 64 + b'", "path": "a.json"}}', 400),
        (header() + line("file", content="AAAA"), 400),
        (header() + line("lfsFile", path="a.json", oid="0" * 63), 400),
        (header() + line("lfsFile", path="a.json", oid="0" * 64), 422),
        (header() + line("other", path="a.json"), 400),
        (header() + line("deletedFile", path="none.json"), 404),
        (header() + b"".join(line("deletedFile", path=f"{number}") for number in range(2001)), 413),
    ],
)
def test_bad_commits_change_nothing(asked: Asked, body: bytes, status: int) -> None:
    before = asked.client.get(API).json()["sha"]
    answer = commit(asked, body)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"] and answer.headers["x-error-message"]
    assert asked.client.get(API).json()["sha"] == before
    assert not list(asked.hub.uploads.iterdir())


@pytest.mark.usefixtures("notes")
def test_a_commit_may_hold_any_text(asked: Asked) -> None:
    answer = commit(asked, header(summary="\ud800 \0 é", description=None), file("a.json", b"1"))
    assert answer.status_code == 200
    assert asked.client.get(f"{API}/commits/main").json()[0]["title"] == "?  é"


@pytest.mark.usefixtures("notes")
def test_who_may_not_is_told_before_anything_is_taken(asked: Asked) -> None:
    for user, status in ((None, 401), ("bob", 403)):
        assert commit(asked, header(), file("a.json", b"1"), user=user).status_code == status
    stranger = asked.client.post(f"{API}/commit/main", content=b"", headers={"Authorization": "Bearer hf_other"})
    assert stranger.status_code == 401
    with asked.hub.database.read() as session:
        assert session.query(Upload).count() == 0
    assert commit(asked, header(), file("a.json", b"1"), rev="none").headers["x-error-code"] == "RevisionNotFound"
    assert commit(asked, header(), query="?create_pr=1").headers["x-error-code"] == "NotImplemented"


def test_files_may_be_too_large(ask: Callable[..., Asked]) -> None:
    asked = ask(max_file_bytes=100_000)
    asked.publish("notes", {"README.md": b"# Notes\n"})
    assert commit(asked, header(), file("a.txt", b" " * 100_001)).status_code == 413
    assert commit(asked, header(), file("a.txt", b" " * 100_000)).status_code == 200
    assert not list(asked.hub.uploads.iterdir())


@pytest.mark.parametrize("uploads", ["auto", "regular"])
def test_what_is_to_come_is_told_how(ask: Callable[..., Asked], uploads: str) -> None:
    asked = ask(uploads=uploads, regular_bytes=1000)
    adapter = lora()
    weights = adapter[WEIGHTS]
    asked.publish("notes", adapter | {"README.md": b"# Notes\n"})
    coming = [
        {"path": "README.md", "size": 8, "sample": "IyBO"},
        {"path": WEIGHTS, "size": len(weights), "sample": ""},
        {"path": "large.json", "size": 1001, "sample": ""},
        {"path": "logs/a.txt", "size": 1, "sample": ""},
    ]
    answer = post(asked, f"{API}/preupload/main", {"files": coming, "gitIgnore": "# none\nlogs/\n*.tmp\n"})
    by_path = {one["path"]: one for one in answer.json()["files"]}
    large = "lfs" if uploads == "auto" else "regular"
    assert [by_path[one["path"]]["uploadMode"] for one in coming] == ["regular", large, large, "regular"]
    assert [by_path[one["path"]]["shouldIgnore"] for one in coming] == [False, False, False, True]
    held = hashlib.sha256(weights).hexdigest() if uploads == "auto" else blob_id(weights)
    assert [by_path[one["path"]]["oid"] for one in coming] == [blob_id(b"# Notes\n"), held, None, None]
    assert post(asked, f"{API}/preupload/main", {"files": coming}, None).status_code == 401
    assert post(asked, f"{API}/preupload/main", {"files": coming * 65}).status_code == 422


@pytest.mark.parametrize(
    ("card", "problem"),
    [
        ("# No metadata", None),
        ("---\ntags: [adapterhub]\nlicense: mit\n---\n# Card", None),
        ("---\nlanguage: {a: b}\n---\n", "'language' must be a text or a list of texts"),
        ("---\ntags: [\n---\n", "not YAML"),
        ("---\ntags: []\n", "close the front matter"),
        ("---\n- a\n---\n", "must be keys with values"),
        ("---\na: &a [x]\nb: [*a, *a]\n---\n", "an alias"),
        ("---\na: " + "[" * 50000 + "\n---\n", "16 levels"),
    ],
)
def test_cards_are_checked(asked: Asked, card: str, problem: str | None) -> None:
    answer = asked.client.post("/api/validate-yaml", json={"content": card, "repoType": "model"})
    assert answer.status_code == (200 if problem is None else 400)
    said = answer.json()
    assert (problem is None and not said["errors"]) or str(problem) in said["errors"][0]["message"]
    assert bool(said["warnings"]) is (card == "# No metadata")


@pytest.mark.usefixtures("notes")
def test_likes(asked: Asked) -> None:
    assert post(asked, f"{API}/like", None, None).status_code == 401
    for user in ("bob", "bob", "ann"):
        assert post(asked, f"{API}/like", None, user).status_code == 200
    assert asked.client.get(API).json()["likes"] == 2
    assert [one["user"] for one in asked.client.get(f"{API}/likers").json()] == ["ann", "bob"]
    assert asked.client.get("/api/users/bob/likes").json()[0]["repo"] == {"name": "ann/notes", "type": "model"}
    assert post(asked, f"{API}/like", None, "bob", method="DELETE").status_code == 200
    assert asked.client.get(API).json()["likes"] == 1 and asked.client.get("/api/users/bob/likes").json() == []


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", f"{API}/discussions", 501, "NotImplemented"),
        ("POST", f"{API}/discussions/1/comment", 501, "NotImplemented"),
        ("POST", f"{API}/super-squash/main", 501, "NotImplemented"),
        ("GET", "/api/collections/x", 501, "NotImplemented"),
        ("GET", "/api/datasets/ann/notes", 404, "RepoNotFound"),
        ("HEAD", "/datasets/ann/notes/resolve/main/x", 404, "RepoNotFound"),
        ("GET", "/spaces/ann/notes/resolve/main/a/b", 404, "RepoNotFound"),
    ],
)
def test_what_is_not_here_is_said_so(asked: Asked, method: str, path: str, status: int, code: str) -> None:
    answer = asked.client.request(method, path)
    assert (answer.status_code, answer.headers["x-error-code"]) == (status, code)


def test_bodies_have_a_longest(asked: Asked) -> None:
    answer = asked.client.post("/api/validate-yaml", content=b'{"content": "' + b"a" * (9 << 20) + b'"}')
    assert answer.status_code == 413
