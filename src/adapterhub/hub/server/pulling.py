"""Files and descriptions of another hub, fetched through and kept: so they are there when that hub is not.

Nothing of who asks is sent on, above all no token, and nobody is ever sent there: clients would take their token along.
"""

import hashlib
import http.client
import json
import os
import re
import secrets
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import adapterhub
from adapterhub.errors import HubAccessError, HubUnreachableError
from adapterhub.files import make_folder, replace
from adapterhub.hub.server import egress
from adapterhub.hub.server.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError
from adapterhub.hub.server.git_objects import blob_hash
from adapterhub.hub.server.settings import Settings

_HOSTS = (".huggingface.co", ".hf.co")  # where huggingface.co keeps large files
_PIECE = 1 << 18
_DOCUMENT_BYTES = 32 << 20
_REDIRECTS = 5
_ETAG = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
_COMMIT = re.compile("[0-9a-f]{40}")


@dataclass(frozen=True)
class File:
    """A file of the other hub.

    Attributes:
        commit: of the revision that it was asked for in.
        etag: its git id, or its SHA-256.
        size: in bytes.
    """

    commit: str
    etag: str
    size: int


@dataclass(frozen=True)
class Document:
    """What the other hub says of a repository: JSON, and the address of the rest of it."""

    text: str
    rest: str | None = None


class Upstream:
    """Another hub, with a folder in which what it gave is kept.

    Args:
        settings: ``upstream``, ``upstream_bytes`` and ``private_hosts`` of these.
    """

    def __init__(self, settings: Settings) -> None:
        self.url = settings.upstream.rstrip("/")
        self._folder = settings.directory / "upstream"
        self._limit = settings.upstream_bytes
        self._private_hosts: Collection[str] = settings.private_hosts

    def file(self, name: str, revision: str, path: str) -> File:
        """What a file is; of a commit, as it was when it was first asked for.

        Raises:
            RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError: for what is not there.
            HubUnreachableError: if the other hub does not answer, and the file was never asked for before.
        """
        place = f"/{name}/resolve/{quote(revision, safe='')}/{quote(path)}"
        known = self._known(place)
        if known is None or not _COMMIT.fullmatch(revision):
            try:
                known = self._asked(place)
                self._keep(place, known)
            except HubUnreachableError:
                if known is None:
                    raise
        if (code := known.get("code")) is not None:
            raise _missing(code, name, revision, path, known["commit"])
        return File(**known)

    def document(self, target: str, *, forever: bool) -> Document:
        """What is said at an address (a path and a query) under the other hub; ``forever`` if it cannot change.

        Raises:
            RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError, HubUnreachableError: as ``file``.
        """
        known = self._known(target)
        if known is None or not forever:
            try:
                known = self._read(target)
                self._keep(target, known)
            except HubUnreachableError:
                if known is None:
                    raise
        if (code := known.get("code")) is not None:
            raise _missing(code, target, "", "", known["commit"])
        return Document(**known)

    def kept(self, file: File) -> Path | None:
        """The bytes of a file, if they are here."""
        path = self._folder / "files" / file.etag
        try:
            os.utime(path)  # what was not asked for the longest goes first
        except OSError:
            return None
        return path

    def fetch(self, name: str, path: str, file: File) -> Iterator[bytes]:
        """The bytes of a file as they come in; once all have, and are what they should be, they are kept.

        Raises:
            HubUnreachableError: if they do not come, or are others; the last piece is not given away then.
        """
        place = f"{self.url}/{name}/resolve/{file.commit}/{quote(path)}"
        make_folder(self._folder / "files")
        staged = self._folder / f".{secrets.token_hex(8)}"
        digest = hashlib.sha256() if len(file.etag) == 64 else blob_hash(file.size)
        size, held = 0, b""
        try:
            with self._following("GET", place) as answer, staged.open("xb") as copy:
                if answer.status != 200:
                    raise HubUnreachableError(f"{self.url} answered {answer.status} for {name}/{path}")
                while piece := answer.read(_PIECE):
                    size += len(piece)
                    digest.update(piece)
                    copy.write(piece)
                    yield held
                    held = piece
            if size != file.size or digest.hexdigest() != file.etag:
                raise HubUnreachableError(f"{self.url} gave other bytes for {name}/{path} than it said")
            self._take(staged, file)
        finally:
            staged.unlink(missing_ok=True)
        yield held

    def _take(self, staged: Path, file: File) -> None:
        if file.size > self._limit:
            return
        kept = []
        for path in (self._folder / "files").iterdir():
            with suppress(FileNotFoundError):  # another worker has made room too
                kept.append((path.stat().st_mtime, path.stat().st_size, path))
        over = sum(size for _, size, _ in kept) + file.size - self._limit
        for _, size, path in sorted(kept):
            if over > 0:
                over -= size
                path.unlink(missing_ok=True)
        staged.replace(self._folder / "files" / file.etag)

    def _asked(self, place: str) -> dict[str, Any]:
        with self._following("HEAD", self.url + place) as answer:
            if (missing := _error(answer)) is not None:
                return missing
            etag = (answer.headers["X-Linked-ETag"] or answer.headers["ETag"] or "").removeprefix("W/").strip('"')
            size = answer.headers["X-Linked-Size"] or answer.headers["Content-Length"] or ""
            commit = answer.headers["X-Repo-Commit"] or ""
        if not (_ETAG.fullmatch(etag) and size.isdecimal() and _COMMIT.fullmatch(commit)):
            raise HubUnreachableError(f"{self.url} does not say what a file is, as a hub does")
        return asdict(File(commit, etag, int(size)))

    def _read(self, target: str) -> dict[str, Any]:
        with self._following("GET", self.url + target) as answer:
            if (missing := _error(answer)) is not None:
                return missing
            data = answer.read(_DOCUMENT_BYTES + 1)
            link = re.search(r'<([^>]*)>;\s*rel="next"', answer.headers["Link"] or "")
        try:
            content = _without_xet(json.loads(data))
        except (ValueError, RecursionError) as error:
            raise HubUnreachableError(f"{self.url} answered with what is no JSON, or too much of it") from error
        rest = None if link is None else urlsplit(link[1])
        return asdict(Document(json.dumps(content), rest and f"{rest.path}?{rest.query}"))

    @contextmanager
    def _following(self, method: str, url: str) -> Iterator[http.client.HTTPResponse]:
        """The answer at an address, or at where it leads: not beyond the other hub and where it keeps files."""
        for _ in range(_REDIRECTS):
            with self._answer(method, url) as answer:
                place = answer.headers["Location"]
                described = method == "HEAD" and answer.headers["X-Repo-Commit"]
                if not 300 <= answer.status < 400 or not place or described:
                    yield answer
                    return
                url = self._allowed(urljoin(url, place))
        raise HubUnreachableError(f"{self.url} leads round in circles")

    def _answer(self, method: str, url: str) -> AbstractContextManager[http.client.HTTPResponse]:
        headers = {"User-Agent": f"adapterhub/{adapterhub.__version__}", "Accept-Encoding": "identity"}
        return egress.asking(method, url, headers, self._private_hosts)

    def _allowed(self, url: str) -> str:
        there, own = urlsplit(url), urlsplit(self.url)
        same = (there.scheme, there.netloc) == (own.scheme, own.netloc)
        if same or (there.scheme == "https" and (there.hostname or "").endswith(_HOSTS)):
            return url
        raise HubAccessError(f"{self.url} leads to {there.hostname}, from which nothing is fetched")

    def _known(self, key: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads(self._note(key).read_text("utf-8"))
        except FileNotFoundError:
            return None
        return found

    def _keep(self, key: str, value: Mapping[str, Any]) -> None:
        note = self._note(key)
        make_folder(note.parent)
        replace(note, json.dumps(value).encode())

    def _note(self, key: str) -> Path:
        return self._folder / "notes" / f"{hashlib.sha256(f'{self.url}{key}'.encode()).hexdigest()}.json"


def _error(answer: http.client.HTTPResponse) -> dict[str, Any] | None:
    """What is missing, if the answer is that something is."""
    if answer.status in (401, 403, 404):
        code = answer.headers["X-Error-Code"] if answer.status == 404 else "RepoNotFound"
        return {"code": code or "RepoNotFound", "commit": answer.headers["X-Repo-Commit"] or ""}
    if answer.status >= 400:
        raise HubUnreachableError(f"the hub that this one fetches from answered {answer.status}")
    return None


def _missing(code: str, name: str, revision: str, path: str, commit: str) -> Exception:
    if code == "EntryNotFound":
        return EntryNotFoundError(f"{name} has no {path!r} at {revision}", commit)
    if code == "RevisionNotFound":
        return RevisionNotFoundError(f"{name} has no branch, tag or commit {revision!r}")
    return RepositoryNotFoundError(f"there is no repository {name}, neither here nor where this hub fetches from")


def _without_xet(value: Any) -> Any:
    """Without what would have clients ask for files by a protocol that this hub does not speak."""
    if isinstance(value, list):
        return [_without_xet(one) for one in value]
    if isinstance(value, dict):
        return {key: _without_xet(one) for key, one in value.items() if key not in ("xetHash", "xetEnabled")}
    return value
