"""The bytes of a file as an answer: whole or in part, by the server, by nginx before it, or by the store."""

from collections.abc import Mapping
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response, StreamingResponse

from adapterhub.hub.server.git_objects import Entry
from adapterhub.hub.server.hub import Hub

_LINK_SECONDS = 3600
TYPE = "application/octet-stream"


class _FileResponse(FileResponse):
    chunk_size = 1 << 20


def send(hub: Hub, request: Request, path: str, file: Entry, headers: Mapping[str, str]) -> Response:
    """Answer with a file, or with where it is; ``headers`` are put to what belongs to the bytes."""
    etag, filename = f'"{file.etag}"', path.rpartition("/")[2]
    made = {"ETag": etag, "Accept-Ranges": "bytes", "Content-Disposition": attachment(filename), **headers}
    if is_known(request, etag):
        return Response(status_code=304, headers=made)
    if (link := hub.store.link(file.sha256, filename, _LINK_SECONDS)) is not None:
        linked = {"X-Linked-ETag": etag, "X-Linked-Size": str(file.size), "Cache-Control": "no-store"}
        return RedirectResponse(link, 307, made | linked)
    place = hub.store.path(file.sha256)
    if place is None:
        return _streamed(hub, request, file, made)
    if hub.settings.accel and request.method == "GET":
        inside = place.relative_to(place.parents[2])
        made["X-Accel-Redirect"] = f"{hub.settings.accel.rstrip('/')}/{inside}"
        return Response(headers=made, media_type=TYPE)
    return _FileResponse(place, headers=made, media_type=TYPE, stat_result=None)


def is_known(request: Request, etag: str) -> bool:
    """Whether the client has it already."""
    known = request.headers.get("if-none-match", "")
    return etag in (one.strip().removeprefix("W/") for one in known.split(",")) or known.strip() == "*"


def is_first(request: Request) -> bool:
    """Whether it is asked for from its first byte on: a download, not the rest of one."""
    return request.method == "GET" and request.headers.get("range", "bytes=0-").replace(" ", "").startswith("bytes=0-")


def attachment(filename: str) -> str:
    """So that no browser takes what somebody uploaded for a page of this site."""
    plain = quote(filename)
    return f'attachment; filename="{filename}"' if plain == filename else f"attachment; filename*=UTF-8''{plain}"


def _streamed(hub: Hub, request: Request, file: Entry, headers: dict[str, str]) -> Response:
    """From a store that has no files here and no links."""
    start, end = _range(request, file)
    if start >= file.size > 0:
        return Response(status_code=416, headers=headers | {"Content-Range": f"bytes */{file.size}"})
    headers["Content-Length"] = str(end - start)
    status = 200
    if (start, end) != (0, file.size):
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size}"
        status = 206
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=TYPE)
    return StreamingResponse(hub.store.read(file.sha256, start, end - start), status, headers, media_type=TYPE)


def _range(request: Request, file: Entry) -> tuple[int, int]:
    """The one range that is asked for, or all: what is no range, or several, is answered with the whole."""
    unit, _, text = request.headers.get("range", "").partition("=")
    first, _, last = text.strip().partition("-")
    try:
        if unit.strip().lower() != "bytes":
            return 0, file.size
        if not first:
            return max(file.size - int(last), 0), file.size
        end = min(int(last) + 1, file.size) if last else file.size
        return (int(first), end) if int(first) < end or int(first) >= file.size else (0, file.size)
    except ValueError:
        return 0, file.size
