"""Base models: what is known of them, and which adapters fit one."""

import json
from typing import Annotated, Any, Literal

from fastapi import Path, Query
from pydantic import AfterValidator, BaseModel, Field
from sqlalchemy.orm import Session

from adapterhub.hub.bases import Base
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.api.fingerprints import FingerprintBody
from adapterhub.hub.server.api.narrowing import Kinds, Text
from adapterhub.hub.server.api.problems import problems
from adapterhub.hub.server.api.routing import router
from adapterhub.hub.server.api.views import Listing, Verdict
from adapterhub.hub.server.catalogue import bases, compatible
from adapterhub.hub.server.catalogue.bases import Known
from adapterhub.hub.server.catalogue.compatible import Group
from adapterhub.hub.server.context import TheActor, TheHub

routes = router("base models")

_KEYS = 500


def _of_a_model(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration, if it is one, and text."""
    Base.of_config(config)
    json.dumps(config, ensure_ascii=False).encode()
    return config


Config = Annotated[dict[str, Any], Field(max_length=_KEYS), AfterValidator(_of_a_model)]
BaseName = Annotated[str, Path(max_length=255, description="As on the Hugging Face Hub")]


class Question(Kinds):
    """A base model by its name, its ``config.json`` or its fingerprint, and what adapters for it have to be."""

    base: Text | None = Field(None, description="The base model, by name")
    config: Config | None = Field(None, description="Its config.json, of transformers")
    fingerprint: FingerprintBody | None = None
    q: Text = ""
    limit: int = Field(20, ge=1, le=100, description="Adapters of each group")


class TrainedOn(BaseModel):
    """A base model that adapters were trained on, and how well those suit the one that was asked about."""

    base: str
    revision: str | None
    reasons: list[str]
    flags: list[str]
    count: int


class Fitting(BaseModel):
    """All adapters that fit equally well."""

    verdict: Verdict
    count: int
    trained_on: list[TrainedOn]
    items: list[Listing] = Field(description="The most downloaded first")

    @classmethod
    def of(cls, group: Group) -> "Fitting":
        """From the catalogue."""
        level: Any = group.level.label
        trained = [
            TrainedOn(
                base=one.base.name,
                revision=one.base.revision,
                reasons=list(one.verdict.reasons),
                flags=list(one.verdict.flags),
                count=one.count,
            )
            for one in group.trained
        ]
        items = [Listing.of(one) for one in group.page.adapters]
        return cls(verdict=level, count=group.count, trained_on=trained, items=items)


class Ancestor(BaseModel):
    """What a model was made of, and how."""

    name: str
    relation: str


class Weights(BaseModel):
    """Weights that were seen under the name of a base model."""

    revision: str | None
    fingerprint: dict[str, Any] | None


class BaseView(BaseModel):
    """What is known of a base model."""

    name: str
    model_type: str | None
    hidden_size: int | None
    layers: int | None
    adapters: int = Field(description="How many were made for it")
    lineage: list[Ancestor] = Field(description="What it was made of, the closest first")
    weights: list[Weights]

    @classmethod
    def of(cls, known: Known) -> "BaseView":
        """From the catalogue."""
        facts = known.base
        return cls(
            name=known.name,
            model_type=facts.model_type,
            hidden_size=facts.hidden_size,
            layers=facts.layers,
            adapters=known.adapters,
            lineage=[Ancestor(name=one.name, relation=one.relation) for one in facts.lineage],
            weights=[Weights(revision=one.revision, fingerprint=one.fingerprint) for one in known.rows],
        )


class BaseListing(BaseModel):
    """A base model, and how many adapters were made for it."""

    name: str
    model_type: str
    adapters: int


class NewBase(BaseModel):
    """A base model that everybody can have, by its weights."""

    name: str = Field(min_length=1, max_length=255, pattern=r"^[\w.-]+(/[\w.-]+)?$")
    revision: str | None = Field(None, max_length=96, pattern=r"^[^\x00]*$")
    fingerprint: FingerprintBody


class Origin(BaseModel):
    """What a base model was made of."""

    parent: str = Field(min_length=1, max_length=255, pattern=r"^[\w.-]+(/[\w.-]+)?$")
    relation: Literal["finetune", "quantized", "merge", "adapter"]


@routes.post("/compatible", responses=problems(404))
def what_fits(hub: TheHub, actor: TheActor, question: Question) -> list[Fitting]:
    """The adapters that can be loaded into a base model, by how well they fit."""
    saved = None if question.fingerprint is None else question.fingerprint.read()
    with hub.database.read() as session:
        base = compatible.asked(session, name=question.base, config=question.config, fingerprint=saved)
        filters = question.filters(session)
        found = compatible.groups(session, actor, base, filters, words=question.q, limit=question.limit)
        return [Fitting.of(one) for one in found]


@routes.get("/bases", responses=problems())
def all_bases(
    hub: TheHub,
    actor: TheActor,
    q: Text = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> list[BaseListing]:
    """Base models whose names contain a text, those with most adapters first."""
    with hub.database.read() as session:
        return [
            BaseListing(name=one.name, model_type=one.model_type, adapters=one.adapters)
            for one in bases.listed(session, actor, q, limit)
        ]


@routes.post("/bases", status_code=201, responses=problems(401, 403, 409))
def add_base(hub: TheHub, actor: TheActor, new: NewBase) -> BaseView:
    """Tell what the weights of a public base model are like, so that adapters for it are known by more than a name."""
    with hub.database.write() as session:
        bases.register(session, actor, new.name, new.revision, new.fingerprint.read())
        return _view(session, actor, new.name)


@routes.put("/bases/{name:path}/config", responses=problems(401, 403, 404))
def describe(hub: TheHub, actor: TheActor, name: BaseName, config: Config) -> BaseView:
    """Tell what a base model is like by its ``config.json``, by who administers the hub."""
    with hub.database.write() as session:
        bases.describe(session, actor, name, config)
        return _view(session, actor, name)


@routes.put("/bases/{name:path}/origin", responses=problems(401, 403, 404))
def declare(hub: TheHub, actor: TheActor, name: BaseName, origin: Origin) -> BaseView:
    """Tell what a base model was made of, by who administers the hub."""
    with hub.database.write() as session:
        bases.declare(session, actor, name, origin.parent, origin.relation)
        return _view(session, actor, name)


@routes.get("/bases/{name:path}", responses=problems(404))
def base(hub: TheHub, actor: TheActor, name: BaseName) -> BaseView:
    """What is known of a base model."""
    with hub.database.read() as session:
        return _view(session, actor, name)


def _view(session: Session, actor: Actor, name: str) -> BaseView:
    return BaseView.of(bases.known(session, actor, name))
