"""Which files may be in a repository, by name and by content."""

import gzip
import io
import json
import pickle
import re
import struct
import tarfile
import unicodedata
import zipfile
import zlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from adapterhub.errors import UploadRefusedError
from adapterhub.hub.inspecting.files import check_file, check_files, check_path, check_paths
from uploads import opener

WEIGHTS = save({"a": torch.ones(3)})


def zipped() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a.py", "print(1)")
    return made.getvalue()


def tarred() -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../a"), io.BytesIO())
    return made.getvalue()


def torch_saved() -> bytes:
    made = io.BytesIO()
    torch.save({"a": torch.ones(1)}, made)
    return made.getvalue()


def png(inside: bytes = b"", behind: bytes = b"") -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0\0"))
    text = chunk(b"tEXt", inside) if inside else b""
    return b"\x89PNG\r\n\x1a\n" + header + pixels + text + chunk(b"IEND", b"") + behind


def pieces(count: int = 3) -> bytes:
    """A model of sentencepiece in its form: fields 1 (pieces) and 2 (how it was trained)."""
    piece = b"\x0a\x03abc\x15\0\0\x80\x3f"
    return (b"\x0a" + bytes([len(piece)]) + piece) * count + b"\x12\x02\x20\x01"


JPEG = b"\xff\xd8\xff\xe0" + b"\0" * 40 + b"\xff\xd9"
TAKEN = {
    "adapter_model.safetensors": WEIGHTS,
    "a/b/adapter.safetensors": WEIGHTS,
    "README.md": "# Ä\n<img src=x>\n".encode(),
    "LICENSE": b"Apache",
    ".gitattributes": b"*.safetensors filter=lfs\n",
    "adapter_config.json": b'{"r": 8, "megatron_core": "megatron.core", "trust_remote_code": false}',
    "trainer_state.json": b'{"trust_remote_code": 1}',
    "tokenizer.json": b'{"model": {"vocab": {"auto_map": 1}}}',
    "vocab.json": b'{"trust_remote_code": 17}',
    "vocab.txt": b"[PAD]\ncat\ndog\n",
    "merges.txt": b"#version: 0.2\na b\n",
    "spiece.model": pieces(),
    "tokenizer.model": b"IQ== 0\nIg== 1\n",
    "chat_template.jinja": b"{{ messages }}",
    ".eval_results/sst2.yaml": b"a: 1\n",
    "scores.csv": b"a,b\n1,2\n",
    "picture.png": png(),
    "photo.JPG": JPEG,
    "b,c/fusion_config.json": b"{}",
    "Über uns.md": b"ok",
}
REFUSED = {
    "pytorch_adapter.bin": (torch_saved(), "adapterhub convert"),
    "training_args.bin": (pickle.dumps({}, 4), "adapterhub convert"),
    "empty.bin": (b"", "adapterhub convert"),
    "adapter_model.safetensors": (pickle.dumps({"a": 1}, 4), "is a pickle, whatever its name says"),
    "weights.safetensors": (torch_saved(), "the PyTorch file that is one"),
    "zip.safetensors": (WEIGHTS + zipped(), "goes on after the last tensor"),
    "config.json": (zipped(), "a zip archive"),
    "vocab.txt": (gzip.compress(b"a"), "a gzip archive"),
    "notes.txt": (tarred(), "a tar archive"),
    "tar.md": (tarred(), "a tar archive"),
    "old.txt": (b"cos\nsystem\n(S'id'\ntR.", "a pickle"),
    "program.txt": (b"\x7fELF\x02\x01", "a program"),
    "windows.md": (b"MZ\x90\0", "a program"),
    "run.txt": (b"#!/bin/sh\n", "a script"),
    "page.md": (b"\xef\xbb\xbf \n<!DOCTYPE html><p>", "a page that a browser would run"),
    "svg.txt": (b"<svg onload='alert(1)'>", "a page that a browser would run"),
    "model.py": (b"import os", "code is not taken"),
    "notebook.ipynb": (b"{}", "code is not taken"),
    "picture.svg": (b"<svg/>", "save pictures as PNG"),
    "index.html": (b"hello", "pages and SVG"),
    "model.onnx": (b"x", "safetensors alone"),
    "model.gguf": (b"GGUF", "a GGUF file"),
    "all.tar.gz": (b"", "upload the files that are in it"),
    "thing.xyz": (b"x", "of a type that is not taken (.xyz)"),
    "thing": (b"x", "of a type that is not taken (none)"),
    ".bashrc": (b"x", "of a type that is not taken"),
    "latin.md": (b"\xe4", "is no text"),
    "nul.txt": (b"a\0b", "control character 0x00"),
    "escape.md": (b"a\x1b[2J", "control character 0x1b"),
    "no.json": (b"{", "is not JSON"),
    "twice.json": (b'{"a": 1, "a": 2}', "stands twice"),
    "large_config.json": (b'{"a": "' + b"x" * 1024 * 1024 + b'"}', "1,048,576"),
    "code_config.json": (b'{"a": [{"auto_map": {"AutoModel": "x.Y"}}]}', "'auto_map'"),
    "large.md": (b"x" * (1024 * 1024 + 1), "may be 1,048,576"),
    "cut.png": (png()[:-1], "no PNG or JPEG"),
    "behind.png": (png(behind=zipped()), "something else behind"),
    "inside.png": (png(inside=zipped()), "something else behind or in it"),
    "no.png": (b"\x89PNG\r\n\x1a\n", "no PNG or JPEG"),
    "cut.jpg": (JPEG[:-1], "no PNG or JPEG"),
    "inside.jpg": (JPEG[:-2] + zipped() + b"\xff\xd9", "something else"),
    "named.jpg": (b"GIF89a", "no PNG or JPEG"),
    "cut.model": (pieces()[:-1], "is no text"),
    "polyglot.model": (pieces() + b"\x0a" + bytes([len(zipped())]) + zipped(), "an archive behind it"),
    "code.model": (pickle.dumps({}, 2), "a pickle"),
}
BAD_PATHS = {
    "": "relative",
    "/a.md": "relative",
    "a//b.md": "relative",
    "a/": "relative",
    "./a.md": "relative",
    "../a.md": "relative",
    "a/../b.md": "relative",
    "a\\b.md": "not every system",
    "C:a.md": "not every system",
    "a\0.md": "cannot be seen",
    "a\n.md": "cannot be seen",
    "a\u202egnp.md": "cannot be seen",
    "a\u200d.md": "cannot be seen",
    "a\u00a0b.md": "cannot be seen",
    "a\ud800.md": "cannot be seen",
    "a?.md": "not every system",
    "A\u0308.md": "NFC",
    ".git/config": "git keeps for itself",
    "a/.GIT": "git keeps for itself",
    "GIT~1/x": "git keeps for itself",
    ".gitmodules": "git keeps for itself",
    "con.md": "device on Windows",
    "a/NUL": "device on Windows",
    "Com1.tar.md": "device on Windows",
    "lpt¹.md": "device on Windows",
    "aux .md": "device on Windows",
    " a.md": "space",
    "a /b.md": "space",
    "a./b.md": "full stop",
    "a.md.": "full stop",
    "ä" * 128 + ".md": "too long",
    "/".join("ab" for _ in range(17)): "too long",
    "/".join("x" * 200 for _ in range(6)): "too long",
}


@pytest.mark.parametrize("path", TAKEN)
def test_taken(path: str) -> None:
    check_files({path: opener(TAKEN[path])})


@pytest.mark.parametrize("path", REFUSED)
def test_refused(path: str) -> None:
    data, why = REFUSED[path]
    with pytest.raises(UploadRefusedError, match=re.escape(why)) as caught:
        check_file(path, io.BytesIO(data))
    assert path in str(caught.value)


def test_lengths_of_headers_that_look_like_marks() -> None:
    """The first two bytes of a safetensors file may be those of a pickle, a script or a program."""
    for length in (0x0280, 0x0480, 0x8B1F, int.from_bytes(b"#!", "little"), int.from_bytes(b"MZ", "little")):
        text = json.dumps({"__metadata__": {"a": "x" * (length - 27)}}).encode()
        data = len(text).to_bytes(8, "little") + text
        assert int.from_bytes(data[:8], "little") == length
        check_file("a.safetensors", io.BytesIO(data))


@pytest.mark.parametrize("path", BAD_PATHS)
def test_bad_paths(path: str) -> None:
    with pytest.raises(UploadRefusedError, match=re.escape(BAD_PATHS[path])):
        check_path(path)


@pytest.mark.parametrize(
    "paths",
    [
        ("a.md", "A.md"),
        ("a/x.md", "A/y.md"),
        ("straße.md", "STRASSE.md"),
        ("a", "a/b"),
        ("a/b/c", "a/b"),
        ("K.md", "k.md"),
    ],
)
def test_paths_that_are_one_file_somewhere(paths: tuple[str, str]) -> None:
    with pytest.raises(UploadRefusedError):
        check_paths(paths)
    check_paths(paths[:1])
    check_paths(("a/b.md", "a/c.md", "ab"))


@settings(max_examples=500, deadline=None)
@given(st.text(st.characters() | st.sampled_from("./\\ :~"), max_size=12))
def test_a_path_that_is_taken_is_safe(path: str) -> None:
    try:
        check_path(path)
    except UploadRefusedError:
        return
    parts = path.split("/")
    assert unicodedata.is_normalized("NFC", path) and path.isprintable() and path.encode()
    assert not set(parts) & {"", ".", ".."} and not set('\\:*?"<>|') & set(path)
    assert all(part.strip() == part and not part.endswith(".") for part in parts)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(TAKEN)), st.data())
def test_spoilt_files_are_refused_or_taken_and_nothing_else(path: str, data) -> None:
    whole = TAKEN[path]
    place = data.draw(st.integers(0, len(whole)))
    spoilt = whole[:place] + data.draw(st.binary(max_size=6)) + whole[place + data.draw(st.integers(0, 4)) :]
    try:
        check_file(path, io.BytesIO(spoilt))
    except UploadRefusedError as error:
        assert path in str(error)
