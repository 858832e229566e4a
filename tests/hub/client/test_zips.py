"""Adapters in zip files, as AdapterHub gave them out: fetched once, and never more than files in a folder."""

import hashlib
import io
import json
import stat
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import load

import adapterhub
from adapterhub.errors import CheckpointNotFoundError, HubError, HubUnreachableError, SignatureError
from adapterhub.hub.client import zips
from hub.client.test_sharing import model, output, trained

Files = dict[str, bytes]


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Files]]:
    """A server, and the files that it gives out by path."""
    monkeypatch.setenv("ADAPTERHUB_HOME", str(tmp_path / "home"))
    files: Files = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = files.get(self.path)
            self.send_response(404 if body is None else 302 if body.startswith(b"http") else 200)
            if body is not None and body.startswith(b"http"):
                self.send_header("Location", body.decode())
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", files
    server.shutdown()
    server.server_close()


def packed(files: dict[str, bytes | str], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def folder_of(folder: Path) -> dict[str, bytes | str]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_adapter_is_loaded_from_a_zip_file(there: tuple[str, Files], tmp_path: Path) -> None:
    url, files = there
    mine = model()
    expected = trained(mine, "sst")
    mine.save_adapter(tmp_path / "sst", "sst")
    saved = folder_of(tmp_path / "sst")
    files["/sst.zip"] = packed({**saved, "notes.txt": "x", "run.py": "import os"})
    files["/inner.zip"] = packed({f"sst/{name}": data for name, data in saved.items()})
    files["/moved.zip"] = f"{url}/sst.zip".encode()
    digest = hashlib.sha256(files["/sst.zip"]).hexdigest()
    for path in ("/sst.zip", "/inner.zip", "/moved.zip", f"/sst.zip#sha256={digest}"):
        yours = model()
        yours.load_adapter(url + path, set_active=True)
        assert torch.equal(output(yours), expected)
    assert {path.name for path in adapterhub.pull(f"{url}/sst.zip").folder.iterdir()} == set(saved)
    files.clear()
    assert adapterhub.pull(f"{url}/sst.zip").folder.is_dir()  # fetched once
    with pytest.raises(SignatureError, match="zip file"):
        adapterhub.pull(f"{url}/sst.zip", signed_by="ann")


def test_pickles_are_read_where_that_is_allowed(there: tuple[str, Files], tmp_path: Path) -> None:
    url, files = there
    mine = model()
    expected = trained(mine, "sst")
    mine.save_adapter(tmp_path / "sst", "sst", format="adapters")
    saved = folder_of(tmp_path / "sst")
    out = io.BytesIO()
    torch.save(load(bytes(saved.pop("adapter.safetensors"))), out)
    files["/old.zip"] = packed({**saved, "pytorch_adapter.bin": out.getvalue()})
    with pytest.raises(CheckpointNotFoundError, match="allow_pickle"):
        model().load_adapter(f"{url}/old.zip")
    yours = model()
    yours.load_adapter(f"{url}/old.zip", allow_pickle=True, set_active=True)
    assert torch.equal(output(yours), expected)


def link() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo("adapter_config.json")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    return out.getvalue()


def damaged() -> bytes:
    data = bytearray(packed({"adapter_config.json": b"abcdefgh" * 50}, zipfile.ZIP_STORED))
    data[60] ^= 0xFF
    return bytes(data)


WRONG = {
    "no zip": (b"<html>", "no zip file"),
    "cut off": (packed({"adapter_config.json": "{}"})[:-30], "no zip file"),
    "damaged": (damaged(), "no zip file"),
    "above": (packed({"../adapter_config.json": "{}"}), "not unpacked"),
    "within": (packed({"a/../../adapter_config.json": "{}"}), "not unpacked"),
    "absolute": (packed({"/tmp/adapter_config.json": "{}"}), "not unpacked"),
    "Windows": (packed({"C:\\adapter_config.json": "{}"}), "not unpacked"),
    "twice": (packed({"a.json": "{}", "A.json": "{}"}), "not unpacked"),
    "link": (link(), "holds links"),
    "nothing": (packed({"run.py": "import os"}), "no adapter"),
    "many": (packed({f"{number}.json": "" for number in range(1001)}), "1,001 files"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_adapter_leaves_nothing_behind(there: tuple[str, Files], tmp_path: Path, name: str) -> None:
    url, files = there
    files["/x.zip"], said = WRONG[name]
    with pytest.raises(HubError, match=said):
        adapterhub.pull(f"{url}/x.zip")
    left = [path for path in (tmp_path / "home").rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert left == [] and not Path("/tmp/adapter_config.json").exists()


def test_bombs_and_files_without_an_end(there: tuple[str, Files], monkeypatch: pytest.MonkeyPatch) -> None:
    url, files = there
    files["/bomb.zip"] = packed({"a.json": bytes(600_000), "b.json": bytes(600_000)})
    monkeypatch.setattr(zips, "_MOST_UNPACKED", 1_000_000)
    with pytest.raises(HubError, match="1,000,000 bytes when it is unpacked"):
        adapterhub.pull(f"{url}/bomb.zip")
    monkeypatch.setattr(zips, "_MOST_BYTES", 1000)
    with pytest.raises(HubError, match="larger than 1,000 bytes"):
        adapterhub.pull(f"{url}/bomb.zip")


def test_another_file_or_none(there: tuple[str, Files]) -> None:
    url, files = there
    files["/x.zip"] = packed({"adapter_config.json": json.dumps({})})
    with pytest.raises(HubError, match="and should have 0000"):
        adapterhub.pull(f"{url}/x.zip#sha256={'0' * 64}")
    with pytest.raises(HubError, match="64 hexadecimal digits"):
        adapterhub.pull(f"{url}/x.zip#v1")
    with pytest.raises(HubUnreachableError, match="answered 404"):
        adapterhub.pull(f"{url}/y.zip")
    with pytest.raises(HubUnreachableError, match="does not answer"):
        adapterhub.pull("http://127.0.0.1:9/x.zip")
