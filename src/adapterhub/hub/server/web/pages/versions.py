"""The files of a repository, one by one, and the commits that made them what they are."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from adapterhub.hub.server import repositories
from adapterhub.hub.server.context import TheHub, downloads_of
from adapterhub.hub.server.errors import EntryNotFoundError
from adapterhub.hub.server.git_objects import Entry
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.protocol.sending import is_first, send
from adapterhub.hub.server.web.rendering import page
from adapterhub.hub.server.web.repository_view import File, View, view
from adapterhub.hub.server.web.visitor import TheVisitor

router = APIRouter(prefix="/{owner}/{name}")
_SHOWN_BYTES, _SHOWN_COMMITS, _SHOWN_LINES = 200_000, 100, 400
_PICTURES = {"png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg"}
_TEXTS = (".md", ".txt", ".json", ".yaml", ".yml", ".jinja", ".bib", ".cff", ".csv", ".tsv", ".jsonl", ".rst")


@dataclass(frozen=True)
class Changed:
    """A file that a commit changed; ``lines`` are those of a difference, of a text that is not too long."""

    path: str
    how: str
    before: int
    after: int
    lines: list[str]


@router.get("/tree/{revision:path}")
def files_page(request: Request, visitor: TheVisitor, hub: TheHub, owner: str, name: str, revision: str) -> Response:
    """The files of a revision, with sizes and hashes."""
    with hub.database.read() as session:
        return page(request, visitor, "files", view=view(session, visitor.actor, owner, name, revision))


@router.get("/commits/{revision:path}")
def commits_page(request: Request, visitor: TheVisitor, hub: TheHub, owner: str, name: str, revision: str) -> Response:
    """The commits of a revision, the newest first."""
    with hub.database.read() as session:
        shown = view(session, visitor.actor, owner, name, revision)
        found = list(islice(repositories.history(session, shown.repository, shown.commit), _SHOWN_COMMITS))
        return page(request, visitor, "commits", view=shown, commits=found)


@router.get("/commit/{oid}")
def commit_page(request: Request, visitor: TheVisitor, hub: TheHub, owner: str, name: str, oid: str) -> Response:
    """What a commit changed."""
    with hub.database.read() as session:
        shown = view(session, visitor.actor, owner, name, oid)
        before: Mapping[str, Entry] = {}
        if shown.commit.parent is not None:
            before = repositories.files(repositories.revision(session, shown.repository, shown.commit.parent))
        after = repositories.files(shown.commit)
        paths = [path for path in sorted({*before, *after}) if before.get(path) != after.get(path)]
        changes = [_changed(hub, path, before.get(path), after.get(path)) for path in paths]
        return page(request, visitor, "commit", view=shown, changes=changes)


@router.get("/blob/{revision}/{path:path}")
def file_page(
    request: Request, visitor: TheVisitor, hub: TheHub, owner: str, name: str, revision: str, path: str
) -> Response:
    """A file, shown if it is a text."""
    with hub.database.read() as session:
        shown = view(session, visitor.actor, owner, name, revision)
        found = _file(shown, path)
        return page(request, visitor, "file", view=shown, file=found, text=_text(hub, path, found.entry))


@router.get("/download/{revision}/{path:path}")
def download(
    request: Request, visitor: TheVisitor, hub: TheHub, owner: str, name: str, revision: str, path: str
) -> Response:
    """The bytes of a file, for who is signed in here; a picture is shown, all else is kept."""
    with hub.database.read() as session:
        shown = view(session, visitor.actor, owner, name, revision)
        file, repository_id = _file(shown, path).entry, shown.repository.id
    headers = {"Cache-Control": "private, no-cache", "Content-Security-Policy": "sandbox; default-src 'none'"}
    if kind := _PICTURES.get(path.rpartition(".")[2].lower()):
        return StreamingResponse(hub.store.read(file.sha256, 0, file.size), media_type=kind, headers=headers)
    if path.endswith(".safetensors") and is_first(request):
        downloads_of(request).count(repository_id)
    return send(hub, request, path, file, headers)


def _file(shown: View, path: str) -> File:
    """A file of a commit.

    Raises:
        EntryNotFoundError: if there is none.
    """
    found = next((one for one in shown.files if one.path == path), None)
    if found is None:
        raise EntryNotFoundError(f"{shown.repository.full_name} has no file {path}", shown.commit.oid)
    return found


def _changed(hub: Hub, path: str, before: Entry | None, after: Entry | None) -> Changed:
    how = "added" if before is None else "deleted" if after is None else "changed"
    texts = [_text(hub, path, one) if one is not None else "" for one in (before, after)]
    lines: list[str] = []
    if texts[0] is not None and texts[1] is not None:
        made = difflib.unified_diff(texts[0].splitlines(), texts[1].splitlines(), lineterm="", n=2)
        lines = list(islice(made, 2, _SHOWN_LINES))
    return Changed(path, how, 0 if before is None else before.size, 0 if after is None else after.size, lines)


def _text(hub: Hub, path: str, entry: Entry) -> str | None:
    """The text of a file; None for what is none, or too long to show."""
    if entry.size > _SHOWN_BYTES or not path.lower().endswith(_TEXTS):
        return None
    with hub.store.open(entry.sha256) as stream:
        return stream.read().decode(errors="replace")
