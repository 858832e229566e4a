"""What the server answers with when it cannot do what it was asked; each has a status of HTTP."""

from adapterhub.errors import (
    AmbiguousAdapterError,
    HubAccessError,
    HubConflictError,
    HubError,
    HubNotFoundError,
    HubUnreachableError,
    UploadRefusedError,
)


class RepositoryNotFoundError(HubNotFoundError):
    """No such repository, or none that may be seen."""


class RevisionNotFoundError(HubNotFoundError):
    """No branch, tag or commit of that name."""


class EntryNotFoundError(HubNotFoundError):
    """No file or folder of that name in a commit; ``commit`` is the id of that commit."""

    def __init__(self, message: str, commit: str) -> None:
        super().__init__(message)
        self.commit = commit


class NotSignedInError(HubAccessError):
    """A request that needs an account, by somebody without one."""


class StaleParentError(HubConflictError):
    """A commit made for another state of a branch than it has now."""


class TooLargeError(UploadRefusedError):
    """More than a file, a commit or an account may hold."""


class RateLimitError(HubError):
    """More requests than are allowed; ``wait`` is the number of seconds until there are some again."""

    def __init__(self, message: str, wait: int) -> None:
        super().__init__(message)
        self.wait = wait


def status(error: HubError) -> int:
    """The status of HTTP for an error."""
    for kind, code in _STATUS:
        if isinstance(error, kind):
            return code
    return 400


_STATUS: tuple[tuple[type[HubError], int], ...] = (
    (AmbiguousAdapterError, 300),
    (NotSignedInError, 401),
    (HubAccessError, 403),
    (HubNotFoundError, 404),
    (StaleParentError, 412),
    (HubConflictError, 409),
    (TooLargeError, 413),
    (UploadRefusedError, 422),
    (RateLimitError, 429),
    (HubUnreachableError, 502),
)
