"""To upload an adapter: file by file from a script of the page, or all at once by a plain form."""

from collections.abc import Iterator
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.datastructures import FormData, UploadFile
from starlette.responses import JSONResponse, Response

from adapterhub.errors import HubError
from adapterhub.hub.server import accounts, uploading
from adapterhub.hub.server.bodies import with_body
from adapterhub.hub.server.context import TheHub, public_url
from adapterhub.hub.server.errors import TooLargeError, status
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.web import forms
from adapterhub.hub.server.web.rendering import go, page, segment
from adapterhub.hub.server.web.visitor import TheMember, Visitor

router = APIRouter(prefix="/upload")
_PIECE = 1 << 20
_TITLE = "Upload from the web site"
_SENT = "sent"  # fields of a form: "<sha256> <path>" of files that came before it


@router.get("")
def upload_page(request: Request, visitor: TheMember, hub: TheHub, to: str = "") -> Response:
    """The form."""
    owner, _, name = to.partition("/")
    return _page(request, visitor, hub, owner, name)


@router.put("/file")
async def take(request: Request, visitor: TheMember, hub: TheHub, path: str) -> Response:
    """Take one file, and say at once what is wrong with it."""
    forms.check(request, visitor, request.headers.get("x-csrf", ""))
    try:
        if uploading.is_left_out(path):
            return JSONResponse({"sha256": ""})
        sha256 = await with_body(request, partial(uploading.take, hub, visitor.actor, path))
        return JSONResponse({"sha256": sha256})
    except HubError as error:
        return JSONResponse({"problem": str(error)}, status(error))


async def _posted(request: Request, visitor: TheMember, hub: TheHub) -> FormData:
    """The form with its files, which wait in temporary files of this machine."""
    if int(request.headers.get("content-length") or 0) > hub.settings.quota_bytes:
        raise TooLargeError("these files are more than an account may have here")
    limit = hub.settings.max_commit_files
    return await request.form(max_files=limit, max_fields=limit + 20)


@router.post("")
def publish(request: Request, visitor: TheMember, hub: TheHub, form: Annotated[FormData, Depends(_posted)]) -> Response:
    """Check files that came with the form, then publish all."""
    forms.check(request, visitor, str(form.get(forms.WORD, "")))
    owner, name = str(form.get("owner", "")), str(form.get("name", "")).strip()
    private = form.get("private") == "yes"
    sent = (str(one).partition(" ") for one in form.getlist(_SENT))
    files = {path: sha256 for sha256, _, path in sent if path}
    problems = []
    for one in form.getlist("files"):
        if not isinstance(one, UploadFile) or not one.filename or uploading.is_left_out(one.filename):
            continue
        try:
            files[one.filename] = uploading.take(hub, visitor.actor, one.filename, _pieces(one))
        except HubError as error:
            problems.append((one.filename, str(error)))
    problem, code = "", 422
    if not problems:
        try:
            if not files:
                raise HubError("choose the files of an adapter first")
            title = str(form.get("title", "")).strip()[:200] or _TITLE
            uploading.publish(hub, visitor.actor, owner, name, files, title, private=private)
            return go(f"/{segment(owner)}/{segment(name)}", "published")
        except HubError as error:
            problem, code = str(error), status(error)
    return _page(request, visitor, hub, owner, name, private, problem, problems, code)


def _pieces(file: UploadFile) -> Iterator[bytes]:
    while piece := file.file.read(_PIECE):
        yield piece


def _page(
    request: Request,
    visitor: Visitor,
    hub: Hub,
    owner: str,
    name: str,
    private: bool = False,
    problem: str = "",
    problems: list[tuple[str, str]] | None = None,
    code: int = 200,
) -> Response:
    with hub.database.read() as session:
        found = accounts.organisations(session, visitor.actor.id or 0)
        owners = [visitor.actor.name, *(one.name for one, role in found if role != "read")]
    return page(
        request,
        visitor,
        "upload",
        status=code,
        owners=owners,
        owner=next((one for one in owners if one.lower() == owner.lower()), visitor.actor.name),
        name=name,
        private=private,
        problem=problem,
        problems=problems or [],
        address_of_hub=public_url(request),
    )
