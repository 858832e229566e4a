"""Files that come in by the upload page: one by one by its script, or all at once by a plain form."""

import hashlib
import json

import pytest
from httpx import Response

from adapterhub.hub.server import repositories
from hub.server.web import demo
from hub.server.web.conftest import Site

FILES = {"README.md": b"# One\n", **demo.lora("roberta-base", layers=2)}


def _form(site: Site, files: dict[str, bytes], **fields: str) -> Response:
    fields = {"csrf": site.word("/upload"), "owner": "ann", "name": "one", **fields}
    parts = [("files", (path, data)) for path, data in files.items()]
    return site.client.post("/upload", data=fields, files=parts, follow_redirects=False)


def _put(site: Site, path: str, data: bytes) -> Response:
    headers = {"X-CSRF": site.word("/upload")}
    return site.client.put("/upload/file", params={"path": path}, content=data, headers=headers)


def _files(site: Site, name: str = "one") -> dict[str, str]:
    with site.hub.database.read() as session:
        repository = repositories.find(session, site.actor("ann"), "ann", name)
        files = repositories.files(repositories.revision(session, repository, "main"))
        return {path: file.sha256 for path, file in files.items()}


def _hashes(files: dict[str, bytes]) -> dict[str, str]:
    return {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}


def test_a_plain_form_publishes_all_files_at_once(site: Site) -> None:
    answer = _form(site.sign_in("ann"), FILES)
    assert answer.headers["location"] == "/ann/one?said=published", answer.text
    assert _files(site) == _hashes(FILES)
    assert "LoRA" in site.get("/ann/one").text


def test_files_that_were_sent_before_are_published_by_their_hashes(site: Site) -> None:
    site.sign_in("ann")
    sent = []
    for path, data in FILES.items():
        answer = _put(site, path, data)
        assert answer.json() == {"sha256": hashlib.sha256(data).hexdigest()}
        sent.append(f"{answer.json()['sha256']} {path}")
    fields = {"csrf": site.word("/upload"), "owner": "ann", "name": "one", "sent": sent, "private": "yes"}
    answer = site.client.post("/upload", data=fields, files={"files": ("", b"")}, follow_redirects=False)
    assert answer.headers["location"] == "/ann/one?said=published", answer.text
    assert _files(site) == _hashes(FILES)
    assert site.new_browser().get("/ann/one").status_code == 404


BAD = {
    "model.bin": b"\x80\x04\x95",
    "renamed.safetensors": b"\x80\x04\x95 a pickle",
    "run.py": b"print()",
    "page.html": b"<script>alert(1)</script>",
    "picture.svg": b"<svg onload='alert(1)'/>",
    "packed.zip": b"PK\x03\x04",
    "adapter_config.json": b'{"a": 1, "a": 2}',
    "../outside.json": b"{}",
    "a/../../outside.json": b"{}",
    "nul\x00.json": b"{}",
    "<img src=x onerror=alert(1)>.json": b"{}",
}


@pytest.mark.parametrize("path", BAD)
def test_a_file_that_may_not_be_here_is_named_with_what_is_wrong(site: Site, path: str) -> None:
    site.sign_in("ann")
    answer = _put(site, path, BAD[path])
    assert answer.status_code == 422 and answer.json()["problem"]
    assert site.get("/ann/one").status_code == 404


def test_the_form_says_what_is_wrong_with_each_file_and_publishes_none(site: Site) -> None:
    answer = _form(site.sign_in("ann"), {**FILES, "model.bin": b"\x80", "run.py": b"print()"})
    assert answer.status_code == 422
    assert "<code>model.bin</code>" in answer.text and "<code>run.py</code>" in answer.text
    assert site.get("/ann/one").status_code == 404


def test_files_that_are_right_alone_and_wrong_together_leave_nothing(site: Site) -> None:
    config = json.dumps({**json.loads(FILES["adapter_config.json"]), "r": 4}).encode()
    answer = _form(site.sign_in("ann"), {**FILES, "adapter_config.json": config})
    assert answer.status_code == 422 and 'role="alert"' in answer.text
    assert site.get("/ann/one").status_code == 404
    assert _form(site, FILES).status_code == 303


def test_a_second_upload_adds_to_the_first(site: Site) -> None:
    _form(site.sign_in("ann"), FILES)
    answer = _form(site, {"README.md": b"# Two\n"}, title="Another card")
    assert answer.status_code == 303
    assert _files(site) == _hashes({**FILES, "README.md": b"# Two\n"})
    assert "Another card" in site.get("/ann/one/commits/main").text


@pytest.mark.parametrize(
    ("owner", "name"), [("bob", "one"), ("nobody", "one"), ("ann", ""), ("ann", "a..b"), ("ann", "../x")]
)
def test_nobody_publishes_elsewhere(site: Site, owner: str, name: str) -> None:
    answer = _form(site.sign_in("ann"), FILES, owner=owner, name=name)
    assert answer.status_code in (400, 403, 404) and 'role="alert"' in answer.text


def test_what_another_has_sent_is_not_mine(site: Site) -> None:
    site.sign_in("bob")
    sent = [f"{_put(site, path, data).json()['sha256']} {path}" for path, data in FILES.items()]
    site.sign_in("ann")
    fields = {"csrf": site.word("/upload"), "owner": "ann", "name": "one", "sent": sent}
    answer = site.client.post("/upload", data=fields, files={"files": ("", b"")})
    assert answer.status_code == 422 and "were not sent" in answer.text


def test_files_of_desktops_are_left_out(site: Site) -> None:
    assert _put(site.sign_in("ann"), ".DS_Store", b"\x00").json() == {"sha256": ""}
    assert _form(site, {**FILES, "Thumbs.db": b"\x00"}).status_code == 303
    assert _files(site) == _hashes(FILES)


def test_a_stranger_uploads_nothing(site: Site) -> None:
    assert site.get("/upload").headers["location"] == "/login?next=/upload"
    assert site.client.put("/upload/file", params={"path": "README.md"}, content=b"x").url.path == "/login"
    answer = site.client.post(
        "/upload", data={"csrf": site.word()}, files={"files": ("a.md", b"x")}, follow_redirects=False
    )
    assert answer.headers["location"].startswith("/login")
