"""An adapter in full, as the API shows it."""

from dataclasses import asdict
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from adapterhub.hub.server.api.views import File, Listing, Verdict, listing
from adapterhub.hub.server.catalogue.details import Details, Fit
from adapterhub.hub.server.database import Commit, Ref, Score
from adapterhub.hub.server.signatures import Signed
from adapterhub.hub.server.snippets import Subject, snippets


class Version(BaseModel):
    """A branch, or a tag (which never moves)."""

    name: str
    kind: Literal["branch", "tag"]
    commit: str
    message: str
    updated: datetime

    @classmethod
    def of(cls, ref: Ref, commit: Commit) -> "Version":
        """From its row, and that of its commit."""
        kind: Any = ref.kind
        message = ref.message or commit.title
        return cls(name=ref.name, kind=kind, commit=ref.oid, message=message, updated=commit.created)


class CommitView(BaseModel):
    """A change of files."""

    id: str
    parent: str | None
    title: str
    author: str
    created: datetime

    @classmethod
    def of(cls, one: Commit) -> "CommitView":
        """From its row."""
        return cls(id=one.oid, parent=one.parent, title=one.title, author=one.author, created=one.created)


class ScoreView(BaseModel):
    """A number on a data set: a claim of the owner, or measured (``by``) with all that is needed to do so again."""

    data: str = Field(description="The data set, as task/dataset where it is one of this hub")
    split: str
    metric: str
    value: float
    low: float | None = Field(description="Of the 95 % confidence interval")
    high: float | None
    rows: int | None
    verified: bool = Field(description="Measured by somebody who does not belong to the owner")
    by: str | None
    commit: str
    evidence: dict[str, Any] | None
    created: datetime

    @classmethod
    def of(cls, one: Score, by: str) -> "ScoreView":
        """From its row, and the name of who measured."""
        known: dict[str, Any] = {name: getattr(one, name) for name in cls.model_fields if name not in ("by", "commit")}
        return cls(**known, by=by or None, commit=one.oid)


class FitView(BaseModel):
    """How well a base model suits an adapter."""

    base: str
    verdict: Verdict
    reasons: list[str]
    flags: list[str]

    @classmethod
    def of(cls, one: Fit) -> "FitView":
        """From the catalogue."""
        level: Any = one.verdict.level.label
        return cls(base=one.base, verdict=level, reasons=list(one.verdict.reasons), flags=list(one.verdict.flags))


class Elsewhere(BaseModel):
    """Where the files of an adapter are that this hub knows, and does not have."""

    hub: str
    repository: str
    version: str | None


class SignatureView(BaseModel):
    """Whether the files are signed, as this hub sees it."""

    state: Literal["none", "valid", "unknown key", "unchecked", "broken"]
    by: str | None = Field(description="The account whose key it is, or the Sigstore identity")
    key: str | None = Field(description="The name of the key")
    issuer: str | None = Field(description="Who says that the Sigstore identity is they")
    fingerprint: str | None = Field(description="Of the key: the SHA-256 of its PEM")
    at: datetime | None = Field(description="When the signature came")

    @classmethod
    def of(cls, one: Signed) -> "SignatureView":
        """From what was found out."""
        return cls.model_validate(one, from_attributes=True)


class Code(BaseModel):
    """Code to copy, in which the adapter is pinned to the commit."""

    key: str
    title: str
    language: Literal["python", "shell"]
    code: str


class AdapterView(Listing):
    """All that is known of an adapter at a commit."""

    title: str
    license: str
    head: str
    tags: list[str]
    private: bool
    withdrawn: str | None = Field(description="Why it should not be used any more")
    created: datetime
    commit: str
    config: dict[str, Any] = Field(description="As its format has it, with the method in the words of this library")
    config_hash: str
    info: dict[str, Any] | None = Field(description="What else its files turned out to be; None if they are elsewhere")
    elsewhere: Elsewhere | None
    files: list[File]
    versions: list[Version]
    commits: list[CommitView] = Field(description="The latest, the newest first")
    scores: list[ScoreView]
    signature: SignatureView
    card: str = Field(description="README.md, as it is written")
    code: list[Code]
    aliases: list[str] = Field(description="Other names that lead to it")
    used_in: list[str] = Field(description="Compositions that it is a member of")
    fits: list[FitView] = Field(description="Base models known here, the best fitting first")

    @classmethod
    def of(cls, found: Details, card: str, hub: str, signed: Signed) -> "AdapterView":  # type: ignore[override]
        """From the catalogue; what tells of the files is that of the commit. ``hub`` is the address of this one."""
        repository, adapter, info = found.repository, found.adapter, found.info
        values = listing(adapter)
        if info is not None:
            values |= {name: getattr(info, name) for name in ("kind", "method", "format", "parameters", "size")}
        origin = adapter.origin
        return cls(
            **values,
            title=adapter.title,
            license=adapter.license,
            head=adapter.head,
            tags=list(found.tags),
            private=repository.private,
            withdrawn=repository.withdrawn,
            created=repository.created,
            commit=found.commit.oid,
            config=dict(info.config) if info is not None else (origin or {}).get("config", {}),
            config_hash=info.config_hash if info is not None else adapter.config_hash,
            info=None if info is None else {key: one for key, one in info.to_dict().items() if key != "config"},
            elsewhere=elsewhere(origin) if info is None else None,
            files=File.all(found.files),
            versions=[Version.of(*one) for one in found.versions],
            commits=[CommitView.of(one) for one in found.log],
            scores=[ScoreView.of(*one) for one in found.scores],
            signature=SignatureView.of(signed),
            card=card,
            code=[Code(**asdict(one)) for one in snippets(_subject(found, hub))],
            aliases=list(found.aliases),
            used_in=list(found.used_in),
            fits=[FitView.of(one) for one in found.fits],
        )


def _subject(found: Details, hub: str) -> Subject:
    adapter, info = found.adapter, found.info
    base = (info.base if info is not None else None) or (adapter.base.name if adapter.base is not None else "")
    weights = next((path for path in sorted(found.files) if path.endswith(".safetensors")), "")
    commit, of = ("", adapter) if info is None else (found.commit.oid, info)
    return Subject(hub, found.repository.full_name, commit, base, of.format, weights, of.kind)


def elsewhere(origin: dict[str, Any] | None, version: str | None = None) -> Elsewhere | None:
    """Where the files are, of what is a reference."""
    if origin is None:
        return None
    return Elsewhere(hub=origin["hub"], repository=origin["name"], version=version or origin.get("default_version"))
