"""Base models are fetched from another hub, kept, and given away when that hub is not there any more."""

import hashlib
import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from adapterhub.hub.server.git_objects import blob_id
from hub.server.adapter_files import lora
from hub.server.protocol.conftest import Asked

CONFIG, WEIGHTS = b'{"model_type": "bert"}', bytes(range(256)) * 3000
SHA256, COMMIT = hashlib.sha256(WEIGHTS).hexdigest(), "c" * 40
Answer = tuple[int, dict[str, str], bytes]


class OtherHub:
    """A hub as Hugging Face's is: small files at their address, large ones where a redirect leads."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.host = f"127.0.0.1:{self.server.server_port}"
        self.url = f"http://{self.host}"
        commit = {"X-Repo-Commit": COMMIT}
        linked = commit | {"X-Linked-ETag": f'"{SHA256}"', "X-Linked-Size": str(len(WEIGHTS)), "ETag": '"other"'}
        tree = [{"type": "file", "path": "model.safetensors", "oid": "0" * 40, "size": 1, "xetHash": "f" * 64}]
        more = {"Link": f'<{self.url}/api/models/tiny/tree/main?cursor=x%3D&limit=1>; rel="next"'}
        self.answers: dict[str, Answer] = {
            "/tiny/resolve/main/config.json": (200, commit | {"ETag": f'W/"{blob_id(CONFIG)}"'}, CONFIG),
            f"/tiny/resolve/{COMMIT}/config.json": (200, commit | {"ETag": f'"{blob_id(CONFIG)}"'}, CONFIG),
            "/tiny/resolve/main/model.safetensors": (302, linked | {"Location": "/cdn"}, b""),
            f"/tiny/resolve/{COMMIT}/model.safetensors": (302, linked | {"Location": "/cdn"}, b""),
            "/cdn": (200, {}, WEIGHTS),
            "/old/resolve/main/config.json": (307, {"Location": "/tiny/resolve/main/config.json"}, b""),
            "/tiny/resolve/main/none.json": (404, commit | {"X-Error-Code": "EntryNotFound"}, b""),
            "/tiny/resolve/v9/config.json": (404, {"X-Error-Code": "RevisionNotFound"}, b""),
            "/gated/resolve/main/config.json": (401, {"X-Error-Code": "GatedRepo"}, b""),
            "/api/models/tiny": (200, {}, json.dumps({"id": "tiny", "sha": COMMIT}).encode()),
            "/api/models/tiny/tree/main?recursive=True": (200, more, json.dumps(tree).encode()),
        }
        Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        other = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                other.seen.append((self.command, self.path, dict(self.headers)))
                status, headers, body = other.answers.get(self.path, (404, {"X-Error-Code": "RepoNotFound"}, b""))
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(body))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            do_HEAD = do_GET  # noqa: N815

            def log_message(self, *arguments: Any) -> None:
                pass

        return Handler


@pytest.fixture
def other() -> Iterator[OtherHub]:
    made = OtherHub()
    yield made
    made.stop()


@pytest.fixture
def asked(ask: Callable[..., Asked], other: OtherHub) -> Asked:
    allowed = ["tiny", "old", "gated", "evil", "lab/*"]
    return ask(upstream=other.url, upstream_allowed=allowed, private_hosts=[other.host], upstream_bytes=len(WEIGHTS))


def test_files_come_through_and_stay(asked: Asked, other: OtherHub) -> None:
    headers = asked.as_("ann") | {"Cookie": "session=secret"}
    for name in ("tiny", "old"):
        small = asked.client.get(f"/{name}/resolve/main/config.json", headers=headers)
        assert (small.content, small.headers["etag"]) == (CONFIG, f'"{blob_id(CONFIG)}"')
        assert small.headers["x-repo-commit"] == COMMIT
    head = asked.client.head("/tiny/resolve/main/model.safetensors", headers=headers)
    assert head.headers["etag"] == f'"{SHA256}"' and head.headers["content-length"] == str(len(WEIGHTS))
    assert "location" not in head.headers
    for _ in range(2):
        large = asked.client.get(f"/tiny/resolve/{COMMIT}/model.safetensors", headers=headers, follow_redirects=False)
        assert (large.status_code, large.content) == (200, WEIGHTS)
    part = asked.client.get("/tiny/resolve/main/model.safetensors", headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, WEIGHTS[100:200])
    etag = {"If-None-Match": f'"{SHA256}"'}
    assert asked.client.get("/tiny/resolve/main/model.safetensors", headers=etag).status_code == 304
    assert [path for method, path, _ in other.seen if method == "GET"].count("/cdn") == 1
    sent = {name.lower() for _, _, headers in other.seen for name in headers}
    assert sent == {"host", "accept-encoding", "user-agent"}


def test_what_was_asked_for_once_is_there_when_the_other_hub_is_not(asked: Asked, other: OtherHub) -> None:
    def answers() -> list[Any]:
        found = [asked.client.get(f"/tiny/resolve/main/{path}") for path in ("config.json", "none.json")]
        found.append(asked.client.get("/tiny/resolve/v9/config.json"))
        found += [asked.client.get(f"/api/models/tiny{rest}") for rest in ("", "/tree/main?recursive=True")]
        return [(one.status_code, one.content, one.headers.get("x-error-code")) for one in found]

    before = answers()
    assert [status for status, _, _ in before] == [200, 404, 404, 200, 200]
    assert [code for _, _, code in before[1:3]] == ["EntryNotFound", "RevisionNotFound"]
    other.stop()
    assert answers() == before
    assert asked.client.get("/tiny/resolve/main/model.safetensors").status_code == 502
    assert asked.client.get("/tiny/resolve/main/README.md").status_code == 502


def test_descriptions_lead_nowhere_else(asked: Asked, other: OtherHub) -> None:
    tree = asked.client.get("/api/models/tiny/tree/main?recursive=True&token=secret")
    assert tree.json() == [{"type": "file", "path": "model.safetensors", "oid": "0" * 40, "size": 1}]
    assert tree.headers["link"] == '<http://hub.test/api/models/tiny/tree/main?cursor=x%3D&limit=1>; rel="next"'
    assert asked.client.get("/api/models/tiny").json()["sha"] == COMMIT
    assert not any("secret" in path for _, path, _ in other.seen)


def test_names_that_are_not_allowed_are_not_asked_for(asked: Asked, other: OtherHub) -> None:
    for path in (
        "/other/resolve/main/a",
        "/api/models/other",
        "/x/tiny/resolve/main/a",
        "/api/models/x/tiny/tree/main",
    ):
        answer = asked.client.get(path)
        assert (answer.status_code, answer.headers["x-error-code"]) == (404, "RepoNotFound")
    for path in ("/%2e%2e/resolve/main/a", "/..%2Fadmin/resolve/main/a", "/tiny%3Fx/resolve/main/a"):
        assert asked.client.get(path).status_code == 404
    assert not other.seen
    assert asked.client.get("/lab/x/resolve/main/config.json").headers["x-error-code"] == "RepoNotFound"
    assert asked.client.get("/gated/resolve/main/config.json").headers["x-error-code"] == "RepoNotFound"
    assert len(other.seen) == 2


def test_the_base_of_a_public_adapter_may_be_fetched(ask: Callable[..., Asked], other: OtherHub) -> None:
    asked = ask(upstream=other.url, private_hosts=[other.host])
    asked.publish("hidden", lora("tiny"), private=True)
    assert asked.client.get("/tiny/resolve/main/config.json").status_code == 404 and not other.seen
    asked.publish("shown", lora("tiny"))
    assert asked.client.get("/tiny/resolve/main/config.json").content == CONFIG


def test_our_repositories_come_first(asked: Asked, other: OtherHub) -> None:
    asked.publish("tiny", {"config.json": b"{}"})
    assert asked.client.get("/ann/tiny/resolve/main/config.json").content == b"{}" and not other.seen


@pytest.mark.parametrize("place", ["http://169.254.169.254/latest", "https://example.org/", "http://localhost:1/"])
def test_redirects_beyond_the_hub_are_not_followed(asked: Asked, other: OtherHub, place: str) -> None:
    other.answers["/evil/resolve/main/a"] = (302, {"Location": place}, b"")
    assert asked.client.head("/evil/resolve/main/a").status_code == 403
    other.answers["/evil/resolve/main/b"] = (302, {"Location": "/evil/resolve/main/b"}, b"")
    assert asked.client.head("/evil/resolve/main/b").status_code == 502


def test_private_machines_are_no_hubs_unless_a_setting_says_so(ask: Callable[..., Asked], other: OtherHub) -> None:
    asked = ask(upstream=other.url, upstream_allowed=["tiny"])
    assert asked.client.get("/tiny/resolve/main/config.json").status_code == 403 and not other.seen


@pytest.mark.parametrize("data", [WEIGHTS[:-1], WEIGHTS + b"x", WEIGHTS[:-1] + b"x"])
def test_other_bytes_than_were_promised_are_not_kept(asked: Asked, other: OtherHub, data: bytes) -> None:
    other.answers["/cdn"] = (200, {}, data)
    for _ in range(2):
        with pytest.raises(RuntimeError):  # the connection breaks off before the last piece
            asked.client.get("/tiny/resolve/main/model.safetensors")
    assert len([1 for _, path, _ in other.seen if path == "/cdn"]) == 2
    assert not list((asked.hub.settings.directory / "upstream").glob(".*"))


def test_what_is_kept_has_a_limit(asked: Asked, other: OtherHub) -> None:
    asked.client.get("/tiny/resolve/main/config.json")
    asked.client.get("/tiny/resolve/main/model.safetensors")  # as large as all that may be kept
    files = asked.hub.settings.directory / "upstream" / "files"
    assert [path.name for path in files.iterdir()] == [SHA256]
    asked.client.get("/tiny/resolve/main/config.json")
    assert [path.name for path in files.iterdir()] == [blob_id(CONFIG)]
