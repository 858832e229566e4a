"""The ids that git gives to files, folders and commits, so that stock clients can check what they have."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Entry:
    """A file in a commit.

    Attributes:
        oid: the git id of its blob; of a large file, of the pointer that git LFS keeps in its place.
        sha256: of its bytes.
        size: in bytes.
        large: whether git LFS would hold it.
    """

    oid: str
    sha256: str
    size: int
    large: bool

    @property
    def etag(self) -> str:
        """What identifies its bytes to a client: the SHA-256 of a large file, the git id of another."""
        return self.sha256 if self.large else self.oid


Files = Mapping[str, Entry]


def blob_hash(size: int) -> "hashlib._Hash":
    """A hash that gives the git id of a blob after its ``size`` bytes went in."""
    return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)


def blob_id(data: bytes) -> str:
    """The git id of a blob."""
    made = blob_hash(len(data))
    made.update(data)
    return made.hexdigest()


def pointer(sha256: str, size: int) -> bytes:
    """The text that git LFS keeps in the place of a large file."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def entry(oid: str, sha256: str, size: int, large: bool) -> Entry:
    """A file by its bytes: ``oid`` is the git id of these, which a large file gives away for that of its pointer."""
    return Entry(blob_id(pointer(sha256, size)) if large else oid, sha256, size, large)


def folders(files: Files) -> dict[str, str]:
    """The git ids of all folders by path, that of the whole under ``""``."""
    inside: dict[str, list[tuple[bytes, bytes]]] = {"": []}
    for path in files:
        parts = path.split("/")[:-1]
        for depth in range(len(parts)):
            inside.setdefault("/".join(parts[: depth + 1]), [])
    for path, file in files.items():
        above, _, name = path.rpartition("/")
        inside[above].append((name.encode(), b"100644 " + name.encode() + b"\0" + bytes.fromhex(file.oid)))
    made: dict[str, str] = {}
    for path in sorted(inside, key=lambda path: -path.count("/") - bool(path)):
        made[path] = _object("tree", (line for _, line in sorted(inside[path])))
        if path:
            above, _, name = path.rpartition("/")
            line = b"40000 " + name.encode() + b"\0" + bytes.fromhex(made[path])
            inside[above].append((name.encode() + b"/", line))  # git sorts folders as if their names ended in a slash
    return made


def commit_id(tree: str, parent: str | None, author: str, time: datetime, message: str) -> str:
    """The git id of a commit by ``author`` (a name) at ``time``."""
    person = f"{author} <{author}@users.noreply> {int(time.timestamp())} +0000"
    lines = [f"tree {tree}", *([f"parent {parent}"] if parent else []), f"author {person}", f"committer {person}"]
    return _object("commit", ["\n".join([*lines, "", message, ""]).encode()])


def _object(kind: str, parts: Iterable[bytes]) -> str:
    body = b"".join(parts)
    return hashlib.sha1(f"{kind} {len(body)}\0".encode() + body, usedforsecurity=False).hexdigest()
