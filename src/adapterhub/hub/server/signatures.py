"""Whether the files of a commit are signed, and by whom; told anew each time, since keys come and go."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice, takewhile

from sqlalchemy.orm import Session

from adapterhub.errors import SignatureError, UploadRefusedError
from adapterhub.hub import identities, signing
from adapterhub.hub.inspecting import signatures
from adapterhub.hub.inspecting.signatures import SIGNATURE, Signature
from adapterhub.hub.server import repositories, signing_keys
from adapterhub.hub.server.database import Account, Commit, Repository
from adapterhub.hub.server.git_objects import Entry
from adapterhub.hub.server.hub import Hub

_COMMITS = 100


@dataclass(frozen=True)
class Signed:
    """What the hub found out about a signature.

    Attributes:
        state: ``none``, ``valid``, ``unknown key`` (no account that may publish here has it), ``unchecked`` (of a
            Sigstore identity, and the server lacks the package), or ``broken``.
        by: the account, or the Sigstore identity.
        key: the name of the key, as the account calls it.
        issuer: who says that the Sigstore identity is they.
        fingerprint: of the key.
        at: when the first commit with this signature came.
    """

    state: str = "none"
    by: str | None = None
    key: str | None = None
    issuer: str | None = None
    fingerprint: str | None = None
    at: datetime | None = None

    @property
    def words(self) -> str:
        """For people to read."""
        if self.state == "valid":
            return f"by key {self.key} of {self.by}" if self.key else f"by {self.by}, as {self.issuer} says"
        return {
            "unknown key": "with a key that nobody who may publish here has registered",
            "unchecked": "by a Sigstore identity, which this server cannot check",
            "broken": "but the signature is not by the key that it names",
        }.get(self.state, "")


def of(session: Session, hub: Hub, repository: Repository, commit: Commit) -> Signed:
    """Whether a commit is signed."""
    files = repositories.files(commit)
    if (entry := files.get(SIGNATURE)) is None:
        return Signed()
    with hub.store.open(entry.sha256) as stream:
        signature = signatures.read(stream.read())
    try:
        signatures.check_covers(signature, _digests(files))
        state, by, key, issuer = _whose(session, repository.owner, signature)
    except (UploadRefusedError, SignatureError):
        return Signed("broken", fingerprint=signature.key)
    return Signed(state, by, key, issuer, signature.key, _since(session, repository, commit, entry))


def check(session: Session, hub: Hub, repository: Repository, files: Mapping[str, Entry]) -> None:
    """Pass files that are not signed, or whose signature is over them and by whom it says.

    Raises:
        UploadRefusedError: for others, with what to do.
    """
    if (entry := files.get(SIGNATURE)) is None:
        return
    with hub.store.open(entry.sha256) as stream:
        signature = signatures.read(stream.read())
    signatures.check_covers(signature, _digests(files))
    try:
        _whose(session, repository.owner, signature)
    except SignatureError as error:
        raise UploadRefusedError(f"{SIGNATURE}: {error}. Sign the files again, or leave it out") from error


def _whose(session: Session, owner: Account, signature: Signature) -> tuple[str, str | None, str | None, str | None]:
    """State, account or identity, key and issuer."""
    if signature.key is None:
        if not identities.is_installed():
            return "unchecked", None, None, None
        found = identities.identity(signature)
        return "valid", found.name, None, found.issuer
    key = signing_keys.of_publishers(session, owner, signature.key)
    if key is None:
        return "unknown key", None, None, None
    if not signing.is_by(signature, key.pem):
        raise SignatureError(f"the signature is not by the key {key.name} of {key.account.name} that it names")
    return "valid", key.account.name, key.name, None


def _since(session: Session, repository: Repository, commit: Commit, entry: Entry) -> datetime:
    """When the signature came, which stays while the card is edited."""
    log = islice(repositories.history(session, repository, commit), _COMMITS)
    return [one.created for one in takewhile(lambda one: repositories.files(one).get(SIGNATURE) == entry, log)][-1]


def _digests(files: Mapping[str, Entry]) -> dict[str, str]:
    return {path: one.sha256 for path, one in files.items()}
