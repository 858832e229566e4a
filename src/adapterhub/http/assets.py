"""Files that pages use: those of all our servers, and those of one."""

import hashlib
from pathlib import Path

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response

_COMMON = Path(__file__).with_name("static")
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".woff2": "font/woff2"}
_FOR_EVER = "public, max-age=31536000, immutable"


class Assets:
    """The files under ``/static``.

    Args:
        folder: of the files that one server has beside the common ones.
    """

    def __init__(self, folder: Path) -> None:
        paths = (path for one in (_COMMON, folder) for path in one.iterdir())
        self._paths = {path.name: path for path in paths if path.suffix in _TYPES}
        digests = {name: hashlib.sha256(path.read_bytes()) for name, path in self._paths.items()}
        self._versions = {name: digest.hexdigest()[:12] for name, digest in digests.items()}

    def router(self) -> APIRouter:
        """The route that serves them."""
        made = APIRouter()
        made.add_api_route("/static/{name}", self.file, methods=["GET"], include_in_schema=False)
        return made

    def file(self, name: str, v: str = "") -> Response:
        """A file; with its version in the address it never changes."""
        if name not in self._paths:
            raise HTTPException(404, f"there is no file {name}")
        path = self._paths[name]
        headers = {"Cache-Control": _FOR_EVER if v else "public, max-age=300"}
        return FileResponse(path, media_type=_TYPES[path.suffix], headers=headers)

    def address(self, name: str) -> str:
        """The address of a file, which changes with its content."""
        return f"/static/{name}?v={self._versions[name]}"
