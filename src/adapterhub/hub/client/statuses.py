"""What a status of HTTP means when a hub answers with it."""

from collections.abc import Mapping

from adapterhub.errors import (
    AmbiguousAdapterError,
    HubAccessError,
    HubConflictError,
    HubError,
    HubNotFoundError,
    UploadRefusedError,
)

_ERRORS: Mapping[int, type[HubError]] = {
    300: AmbiguousAdapterError,
    401: HubAccessError,
    403: HubAccessError,
    404: HubNotFoundError,
    409: HubConflictError,
    412: HubConflictError,
    413: UploadRefusedError,
    422: UploadRefusedError,
}


def error_of(status: int) -> type[HubError]:
    """The error that a status stands for."""
    return _ERRORS.get(status, HubError)
