"""Publishing adapters."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from adapterhub.errors import (
    CheckpointNotFoundError,
    HubAccessError,
    HubIdError,
    HubUnreachableError,
)
from adapterhub.files import sha256_of
from adapterhub.hub import identities, signing
from adapterhub.hub.card import CARD, TOPIC, Card
from adapterhub.hub.card_making import Facts, make_card
from adapterhub.hub.client import addresses
from adapterhub.hub.client.naming import based_on
from adapterhub.hub.client.resolving import HUGGING_FACE
from adapterhub.hub.client.statuses import error_of
from adapterhub.hub.ids import Coordinate, Identifier, RepositoryId
from adapterhub.hub.inspecting import AdapterInfo, check_files, inspect, signatures
from adapterhub.hub.inspecting.files import Opener
from adapterhub.hub.inspecting.signatures import NOT_COVERED, SIGNATURE

SIGSTORE = "sigstore"  # in the place of a key
_REPLACED = (".safetensors", ".json", SIGNATURE)  # files of an older version that are not of the new one go


@dataclass(frozen=True)
class Pushed:
    """An adapter that was published.

    Attributes:
        repository: ``owner/name``.
        commit: the id of the version.
        url: of its page.
        identifier: what loads it, wherever the hub is known.
    """

    repository: str
    commit: str
    url: str
    identifier: str


def push(
    folder: Path,
    target: str,
    *,
    name: str | None = None,
    facts: Facts | None = None,
    overwrite_card: bool = False,
    private: bool = False,
    message: str = "Upload of an adapter",
    description: str = "",
    branch: str = "main",
    tag: str | None = None,
    sign_with: Path | str | None = None,
    base: str | None = None,
    hub: str | None = None,
    token: str | None = None,
) -> Pushed:
    """Publish a saved adapter or setup: a new repository, or a new version in the one that there is.

    The files are checked here as the hub will check them, before anything is sent. A card (``README.md``) is made if
    the folder has none.

    Args:
        folder: what ``save_adapter`` or ``save_adapter_setup`` wrote, in any format.
        target: ``task/dataset@owner``, ``lang/de@owner``, or ``owner/name``.
        name: of the repository, for the former two; by default made of base model, data set and method.
        facts: what its author says of it, for the card.
        overwrite_card: make a new card though the folder has one.
        private: show it to its owner alone; of a repository that is there already, nothing changes.
        message, description: what is new.
        branch: the branch that it becomes the newest version of; a new one begins where the main branch is.
        tag: a name for this version.
        sign_with: the file of a private key (PEM, of an elliptic curve) to sign the files with, all but the card; or
            ``"sigstore"``, to sign as who one is on the network. The signature becomes ``model.sig`` beside them.
        base: what its base model is called on a hub, where the files have a path on this machine for it.
        hub: the address of a hub; by default the first one that is configured.
        token: of a user there, in the place of the one that was logged in with.

    Raises:
        CheckpointNotFoundError: if there is no adapter in the folder.
        UploadRefusedError: for files that a hub does not take, with what to do.
        SignatureError: for a key that cannot sign.
        HubIdError: for a target that cannot be one.
        HubAccessError: without a token, or without the rights.
        HubUnreachableError: if the hub does not answer.
    """
    where = _where(target)
    with based_on(folder, base) as named:
        files = {path.relative_to(named).as_posix(): path for path in sorted(named.rglob("*")) if _belongs(path, named)}
        info, old = _inspected(named, files)
        signature = _signature(files, sign_with)
        repository = where if isinstance(where, RepositoryId) else _repository(where, name, info)
        place = None if isinstance(where, RepositoryId) else where
        card = _card(repository, info, None if overwrite_card else old, facts or Facts(), place)
        address = addresses.address(hub)
        with _api(address.url, token or address.token) as api:
            url = str(api.create_repo(str(repository), private=private, exist_ok=True))
            if branch != "main":
                api.create_branch(str(repository), branch=branch, exist_ok=True)
            done = api.create_commit(
                str(repository),
                operations=_operations(api, repository, branch, files, card, signature),
                commit_message=message,
                commit_description=description,
                revision=branch,
            )
            if tag is not None:
                api.create_tag(str(repository), tag=tag, revision=done.oid)
    return Pushed(str(repository), done.oid, url, target if place is not None else str(repository))


def _where(target: str) -> Coordinate | RepositoryId:
    """The place in the catalogue that a target names, or the repository."""
    identifier = Identifier.parse(target)
    place = next((one for one in identifier.coordinates if one.author), None)
    if place is not None and place.revision is None:
        return place
    reference = identifier.reference
    if reference is None or reference.revision is not None:
        raise HubIdError(f"{target!r} does not say where to publish: write task/dataset@owner, or owner/name")
    return reference.repository


def _belongs(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return path.is_file() and not hidden


def _inspected(folder: Path, files: Mapping[str, Path]) -> tuple[AdapterInfo, Card | None]:
    """What the files hold, and the card among them."""
    openers: dict[str, Opener] = {path: partial(_open, file) for path, file in files.items()}
    check_files(openers)
    card = Card.parse(files[CARD].read_bytes()) if CARD in files else None
    info = inspect(openers, card.base if card is not None else None)
    if info is None:
        raise CheckpointNotFoundError(f"{folder} holds no adapter: give the folder that save_adapter wrote")
    return info, card


def _open(path: Path) -> BinaryIO:
    return path.open("rb")


def _repository(place: Coordinate, name: str | None, info: AdapterInfo) -> RepositoryId:
    assert place.author is not None
    base = (info.base or info.model_type or "model").rpartition("/")[2]
    parts = (base, place.dataset or place.task or place.language, info.method.replace("_", "-"))
    plain = re.sub(r"[^\w.]+", "-", "-".join(part for part in parts if part), flags=re.ASCII).strip("-.")
    return RepositoryId(place.author, name or plain[:96].strip("-."))


def _card(
    repository: RepositoryId, info: AdapterInfo, old: Card | None, facts: Facts, place: Coordinate | None
) -> Card:
    """The card of the folder, or a new one; either says where in the catalogue the adapter is."""
    if place is None:
        return old or make_card(str(repository), info, facts)
    task, dataset = place.task or place.language or "", place.dataset or ""
    if old is None:
        return make_card(str(repository), info, replace(facts, task=task, dataset=dataset))
    topic = TOPIC + "/".join(part for part in (task, dataset) if part)
    others = tuple(tag for tag in old.tags if not tag.startswith(TOPIC))
    return replace(old, tags=(*others, topic))


def _signature(files: Mapping[str, Path], sign_with: Path | str | None) -> bytes | None:
    """The signature that is published with files: a new one, or the one among them, which has to be over them."""
    if sign_with is None and SIGNATURE not in files:
        return None
    digests = {path: sha256_of(file) for path, file in files.items()}
    if sign_with is None:
        made = files[SIGNATURE].read_bytes()
    else:
        made = identities.sign(digests) if sign_with == SIGSTORE else signing.sign(digests, Path(sign_with))
    signatures.check_covers(signatures.read(made), digests)
    return made


def _operations(
    api: Any, repository: RepositoryId, branch: str, files: Mapping[str, Path], card: Card, signature: bytes | None
) -> list[Any]:
    """What changes; with a signature nothing of an older version stays that it is not over."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    sent: dict[str, Any] = {**files, CARD: card.render().encode()}
    if signature is not None:
        sent[SIGNATURE] = signature
    gone = [path for path in api.list_repo_files(str(repository), revision=branch) if path not in sent]
    if signature is None:
        gone = [path for path in gone if path.endswith(_REPLACED)]
    else:
        gone = [path for path in gone if path not in NOT_COVERED]
    return [
        *(CommitOperationAdd(path, content) for path, content in sent.items()),
        *(CommitOperationDelete(path) for path in gone),
    ]


@contextmanager
def _api(url: str, token: str | None) -> Iterator[Any]:
    """The client of the Hugging Face Hub for another hub; what goes wrong is told in our words."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if token is None and url != HUGGING_FACE:
        raise HubAccessError(f"to publish at {url} log in first: adapterhub login {url}")
    try:
        yield HfApi(endpoint=url, token=token, library_name="adapterhub")
    except OfflineModeIsEnabled as error:
        raise HubUnreachableError(f"{url} is not asked while HF_HUB_OFFLINE is set") from error
    except HfHubHTTPError as error:
        kind = error_of(error.response.status_code)
        raise kind(error.response.headers.get("X-Error-Message") or error.server_message or str(error)) from error
    except OSError as error:
        raise HubUnreachableError(f"{url} does not answer: {error}") from error
