"""What the server answers with when it cannot do what it was asked; each has a status of HTTP."""

from adapterhub.errors import (
    AdapterHubError,
    AmbiguousAdapterError,
    BaseModelMismatchError,
    CheckpointNotFoundError,
    HubAccessError,
    HubError,
    HubIdError,
    HubNotFoundError,
    HubUnreachableError,
    ServingError,
)


class BadInputError(ServingError):
    """Inputs that no answer can be given to: empty, no text, or not of the form that a head reads."""


class WrongHeadError(BadInputError):
    """An adapter without a head, or with one of another kind than was asked for."""


class BrokenAdapterError(ServingError):
    """An adapter that cannot be loaded, or that gives no numbers."""


class UnknownAdapterError(ServingError, LookupError):
    """An adapter that neither the folder nor the hub has."""


class InputTooLargeError(ServingError):
    """More, or longer, texts than one request may bring."""


class TooBusyError(ServingError):
    """More than can be answered now; ``wait`` is the number of seconds after which to ask again."""

    def __init__(self, message: str, wait: int) -> None:
        super().__init__(message)
        self.wait = wait


class NoTokenError(ServingError):
    """A request without a token, or with a wrong one, to a server that wants one."""


class StoppingError(ServingError):
    """A request to a server that ends, or that is not ready yet."""


class DeadlineError(ServingError):
    """A request that was not answered in the time that it gave."""


def status(error: AdapterHubError) -> int:
    """The status of HTTP for an error."""
    return next((code for kind, code in _STATUS if isinstance(error, kind)), 422)


_STATUS: tuple[tuple[type[AdapterHubError], int], ...] = (
    (NoTokenError, 401),
    (HubAccessError, 403),
    (UnknownAdapterError, 404),
    (HubNotFoundError, 404),
    (HubIdError, 404),
    (CheckpointNotFoundError, 404),
    (AmbiguousAdapterError, 409),
    (BaseModelMismatchError, 409),
    (InputTooLargeError, 413),
    (TooBusyError, 429),
    (StoppingError, 503),
    (HubUnreachableError, 503),
    (HubError, 503),
    (DeadlineError, 504),
)
