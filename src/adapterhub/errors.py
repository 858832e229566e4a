"""Every error that adapterhub raises on purpose; each says what happened, where, and what to do."""


class AdapterHubError(Exception):
    """Base of all errors of this package; the command line shows its text without a traceback."""


class ConfigError(AdapterHubError, ValueError):
    """A configuration that is unknown, malformed, or holds a value out of range."""


class SiteError(AdapterHubError, ValueError):
    """A model in which the places that an adapter needs were not found."""


class CompositionError(AdapterHubError, ValueError):
    """A composition that has no meaning, or that cannot run on this model."""


class AdapterNotFoundError(AdapterHubError, LookupError):
    """An adapter name that this model does not hold."""


class AdapterExistsError(AdapterHubError, ValueError):
    """An adapter or head name that is taken already."""


class EmbeddingsError(AdapterHubError, ValueError):
    """Embeddings of a name that is taken or unknown, or that do not fit the model."""


class PoolError(AdapterHubError, RuntimeError):
    """A pool of adapters without room for one more, or an adapter in it that is in use."""


class HeadError(AdapterHubError, ValueError):
    """A prediction head that is missing, unknown, or given input that it cannot use."""


class CheckpointError(AdapterHubError, ValueError):
    """A checkpoint that cannot be written or read; the classes below name the commoner causes."""


class CheckpointNotFoundError(CheckpointError, FileNotFoundError):
    """No checkpoint at the given place."""


class CorruptCheckpointError(CheckpointError):
    """A file that is truncated, altered, or not of the declared format."""


class TensorMismatchError(CheckpointError):
    """Tensors that are missing, left over, or of another shape than the adapter or head has."""


class BaseModelMismatchError(CheckpointError):
    """A checkpoint made for another base model than the one it is loaded into."""


class LabelMismatchError(CheckpointError):
    """A head whose labels disagree with the ones that were asked for."""


class MergeError(AdapterHubError, ValueError):
    """An adapter that cannot be merged into the base model, or a base model that holds a merged one."""


class DataError(AdapterHubError, ValueError):
    """A data set that is missing, unreadable, or not fit for the task."""


class BackboneError(AdapterHubError, RuntimeError):
    """A pre-trained model that is not installed, or whose weights are not the expected ones."""


class TrainingError(AdapterHubError, RuntimeError):
    """A training that cannot start or go on; nothing that was saved before is lost."""


class HubError(AdapterHubError, RuntimeError):
    """A hub that cannot be reached or refuses a request; the classes below name the commoner causes."""


class HubUnreachableError(HubError, ConnectionError):
    """A hub that does not answer, or that there is no way to while offline."""


class HubIdError(HubError, ValueError):
    """A name of an adapter, an author or a revision on a hub that cannot be one, or that is reserved."""


class HubNotFoundError(HubError, LookupError):
    """An adapter, a revision or a file that no hub in question has, or that may not be seen."""


class HubConflictError(HubError):
    """A name that is taken, or a repository that changed meanwhile."""


class HubAccessError(HubError, PermissionError):
    """A request without the rights for it: no token, a wrong one, or one of too small a scope."""


class AmbiguousAdapterError(HubError, LookupError):
    """An identifier that several adapters answer to equally well; ``candidates`` are their names."""

    def __init__(self, message: str, candidates: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.candidates = candidates


class UploadRefusedError(HubError, ValueError):
    """Files that a hub does not take: unsafe, malformed, too large, or at odds with their configuration."""


class SignatureError(HubError, ValueError):
    """A key that cannot sign, or an adapter that is not signed by whom it was demanded of."""


class TrunkError(AdapterHubError, ValueError):
    """A model that cannot run from one of its layers on, or hidden states that do not fit it or its data."""


class ServingError(AdapterHubError, RuntimeError):
    """A server of adapters that refuses a request or does not answer; ``status`` is that of HTTP, if any."""

    status: int | None = None
