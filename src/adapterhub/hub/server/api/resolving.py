"""From what a person writes to a commit and its files."""

from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from adapterhub.hub.bases import Base
from adapterhub.hub.server import repositories
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.api.dossier import Elsewhere, elsewhere
from adapterhub.hub.server.api.fingerprints import FingerprintBody
from adapterhub.hub.server.api.narrowing import Text
from adapterhub.hub.server.api.problems import problems
from adapterhub.hub.server.api.routing import router
from adapterhub.hub.server.api.views import File, Verdict
from adapterhub.hub.server.catalogue import compatible, compositions, resolving
from adapterhub.hub.server.catalogue.compositions import Part
from adapterhub.hub.server.context import TheActor, TheHub
from adapterhub.hub.server.hub import Hub

routes = router("resolution")


class Question(BaseModel):
    """What an adapter is called, and what it has to fit."""

    identifier: Text = Field(
        examples=["sentiment/sst-2@ukp"],
        description="`task/dataset@owner`, `lang/de@owner`, `owner/name`, each with `@revision` after it if needed",
    )
    base: Text | None = Field(None, description="The base model, by name")
    fingerprint: FingerprintBody | None = Field(None, description="Of the base model: tells more than its name")
    method: Text | None = None
    config_hash: Text | None = Field(None, description="Of a configuration that is preferred")
    version: Text | None = Field(None, description="A branch, a tag or a commit")
    allow_shape: bool = Field(False, description="Whether one may be chosen that fits in shape alone")


class MemberView(BaseModel):
    """An adapter that a composition is made of."""

    name: str
    kind: str
    repository: str
    commit: str
    files: list[File]

    @classmethod
    def of(cls, part: Part) -> "MemberView":
        """From the catalogue."""
        name = part.repository.full_name
        return cls(name=part.name, kind=part.kind, repository=name, commit=part.commit.oid, files=File.all(part.files))


class Resolved(BaseModel):
    """The one adapter that an identifier stands for."""

    identifier: str
    repository: str
    commit: str
    kind: str
    files: list[File]
    members: list[MemberView] = Field(description="Of a composition, what it is made of")
    elsewhere: Elsewhere | None = Field(description="Where the files are, if not here")
    verdict: Verdict | None = Field(description="How well it fits the base model; None if none was told")
    flags: list[str]
    reasons: list[str] = Field(description="Why it is this one, and what to know of how it fits")
    alternatives: list[str] = Field(description="Others that would do")


@routes.post("/resolve", responses=problems(300, 404))
def resolve(hub: TheHub, actor: TheActor, question: Question) -> Resolved:
    """The adapter that an identifier stands for, for a base model."""
    return _resolve(hub, actor, question)


@routes.get("/resolve", responses=problems(300, 404))
def resolve_spec(
    hub: TheHub,
    actor: TheActor,
    spec: Annotated[Text, Query(description="As `identifier` of the other way to ask")],
    base: Text | None = None,
    method: Text | None = None,
    config_hash: Text | None = None,
    version: Text | None = None,
    allow_shape: bool = False,
) -> Resolved:
    """The same, asked by an address alone."""
    question = Question(
        identifier=spec,
        base=base,
        fingerprint=None,
        method=method,
        config_hash=config_hash,
        version=version,
        allow_shape=allow_shape,
    )
    return _resolve(hub, actor, question)


def _resolve(hub: Hub, actor: Actor, question: Question) -> Resolved:
    with hub.database.read() as session:
        wanted = _base(session, question)
        found = resolving.resolve(
            session,
            actor,
            question.identifier,
            base=wanted,
            method=question.method,
            config_hash=question.config_hash,
            version=question.version,
            allow_shape=question.allow_shape,
        )
        chosen, repository = found.resolution, found.adapter.repository
        commit = repositories.revision(session, repository, chosen.commit)
        said = chosen.candidate.verdict
        level: Any = None if said is None else said.level.label
        return Resolved(
            identifier=question.identifier,
            repository=repository.full_name,
            commit=commit.oid,
            kind=found.adapter.kind,
            files=File.all(repositories.files(commit)),
            members=[MemberView.of(one) for one in compositions.parts_of(session, actor, commit)],
            elsewhere=elsewhere(found.adapter.origin, found.version),
            verdict=level,
            flags=[] if said is None else list(said.flags),
            reasons=list(chosen.reasons),
            alternatives=list(dict.fromkeys(str(one) for one in chosen.alternatives)),
        )


def _base(session: Session, question: Question) -> Base | None:
    if question.base is None and question.fingerprint is None:
        return None
    saved = None if question.fingerprint is None else question.fingerprint.read()
    return compatible.asked(session, name=question.base, fingerprint=saved)
