"""From what a person writes to a commit of a repository on a hub."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from adapterhub.errors import HubError, HubNotFoundError
from adapterhub.fingerprint import Fingerprint
from adapterhub.hub.bases import is_public
from adapterhub.hub.client import addresses
from adapterhub.hub.client.addresses import Address
from adapterhub.hub.client.answers import asked
from adapterhub.hub.client.cache import snapshot
from adapterhub.hub.client.connection import Connection
from adapterhub.hub.ids import Identifier, Page, Reference, RepositoryId, Revision, is_place
from adapterhub.hub.lock import LockedFile, files_of

HUGGING_FACE = "https://huggingface.co"


@dataclass(frozen=True)
class Wanted:
    """What an adapter has to fit, as far as it matters to whoever asks.

    Attributes:
        base: the name of the base model.
        fingerprint: that of the base model, which tells more than its name.
        method: that of the adapter, ``lora`` say.
        config_hash: of its configuration.
        version: a tag or a branch.
    """

    base: str | None = None
    fingerprint: Fingerprint | None = None
    method: str | None = None
    config_hash: str | None = None
    version: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, what is not known left out; a path on this machine tells a hub nothing."""
        told = {
            "base": self.base if self.base and is_public(self.base) else None,
            "fingerprint": None if self.fingerprint is None else self.fingerprint.to_dict(),
            "method": self.method,
            "config_hash": self.config_hash,
            "version": self.version,
        }
        return {name: value for name, value in told.items() if value is not None}


@dataclass(frozen=True)
class Found:
    """An adapter on a hub.

    Attributes:
        hub: where it is.
        repository: ``owner/name``.
        commit: the id of the commit.
        files: of that commit, by path.
        verdict: how well it fits the base model that was asked for, or None if none was.
        reasons: why it is this one, and what to know of how it fits.
    """

    hub: Address
    repository: str
    commit: str
    files: Mapping[str, LockedFile]
    verdict: str | None = None
    reasons: tuple[str, ...] = ()

    @classmethod
    def of(cls, hub: Address, answer: Mapping[str, Any]) -> Self:
        """From the answer of a hub."""
        try:
            files = files_of({one["path"]: one for one in answer["files"]})
            verdict, reasons = answer.get("verdict"), tuple(answer.get("reasons", ()))
            repository, commit = RepositoryId.parse(answer["repository"]), Revision(answer["commit"])
            return cls(hub, str(repository), str(commit), files, verdict, reasons)
        except (KeyError, TypeError, ValueError) as error:
            raise HubError(f"{hub.url} gave an answer that is none: {error!r}") from error

    @property
    def folder(self) -> Path:
        """Where its files are once they were fetched."""
        return snapshot(self.hub, self.repository, self.commit)


@dataclass(frozen=True)
class OnHuggingFace:
    """A repository that no hub knows, and that may be on the Hugging Face Hub; ``missing`` is what the hubs said."""

    repository: str
    revision: str | None = None
    missing: tuple[str, ...] = ()


def resolve(text: str, wanted: Wanted, hub: str | None = None) -> Found | OnHuggingFace:
    """The adapter that a name stands for on the hubs in order, or on the Hugging Face Hub.

    A hub that does not answer is no reason to ask the next one: what its name stands for there may be another's.

    Args:
        text: a name as ``adapterhub.hub.ids`` has them, or the address of a page of a hub.
        hub: the address of a hub, if no other shall be asked.

    Raises:
        HubIdError: if it is no name.
        HubNotFoundError: if nothing has it.
        AmbiguousAdapterError: if several adapters answer to it equally well.
        HubUnreachableError: if a hub does not answer, and never answered this before.
    """
    if "://" in text:
        return _by_address(text, wanted)
    identifier = Identifier.parse(text)
    hubs = [addresses.address(hub)] if hub else addresses.configured()
    missing = []
    for address in hubs:
        try:
            return _on(address, identifier, wanted)
        except HubNotFoundError as error:
            missing.append(f"{address.url}: {error}")
    # What names an author of a task is no revision of a repository there, once a hub could be asked.
    names_author = any(place.author for place in identifier.coordinates) and bool(hubs)
    if identifier.reference is not None and hub is None and not names_author:
        return _hugging_face(identifier.reference, wanted, tuple(missing))
    if not hubs:
        raise HubNotFoundError(f"{text!r} is a name on a hub, and none is known here: adapterhub login ADDRESS")
    raise HubNotFoundError("\n".join(missing))


def _on(address: Address, identifier: Identifier, wanted: Wanted) -> Found | OnHuggingFace:
    question = {"identifier": identifier.text} | wanted.to_dict()

    def ask() -> Any:
        with Connection(address) as connection:
            return connection.post("/api/v1/resolve", question)

    revisions = [reading.revision for reading in identifier.readings]
    pinned = all(one is not None and one.is_commit for one in revisions)
    answer = asked(address, question, ask, lasting=pinned)
    elsewhere = answer.get("elsewhere") or {}
    if elsewhere.get("hub") == HUGGING_FACE:
        return OnHuggingFace(str(RepositoryId.parse(str(elsewhere.get("repository")))), elsewhere.get("version"))
    return Found.of(address, answer)


def _by_address(text: str, wanted: Wanted) -> Found | OnHuggingFace:
    page = Page.parse(text)
    if page.hub == HUGGING_FACE:
        return _hugging_face(page.reference, wanted)
    return _on(addresses.address(page.hub), Identifier.parse(f"@{page.reference}"), wanted)


def _hugging_face(reference: Reference, wanted: Wanted, missing: tuple[str, ...] = ()) -> OnHuggingFace:
    return OnHuggingFace(str(reference.repository), str(reference.revision or wanted.version or "") or None, missing)


def is_identifier(text: str) -> bool:
    """Whether a text can only be meant as something on a hub: it is no folder, and not written as a path."""
    return "://" in text or (not is_place(text) and not Path(text).exists())
