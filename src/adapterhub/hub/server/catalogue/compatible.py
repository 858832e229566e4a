"""What can be loaded into a base model: a verdict for each base model that adapters here were trained on."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from adapterhub.errors import HubIdError
from adapterhub.fingerprint import Fingerprint
from adapterhub.hub.bases import Base
from adapterhub.hub.compatibility import Level, Verdict, verdict
from adapterhub.hub.inspecting import Need
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.catalogue import bases, facets
from adapterhub.hub.server.catalogue.filters import Filters
from adapterhub.hub.server.catalogue.search import Page, search
from adapterhub.hub.server.database import Adapter, BaseModel


@dataclass(frozen=True)
class Trained:
    """A base model that adapters were trained on, how well they fit another, and how many there are."""

    base: BaseModel
    verdict: Verdict
    count: int


@dataclass(frozen=True)
class Group:
    """All that fits equally well: the base models that it was trained on, and the adapters by downloads."""

    level: Level
    trained: tuple[Trained, ...]
    count: int
    page: Page


def asked(
    session: Session,
    *,
    name: str | None = None,
    config: Mapping[str, Any] | None = None,
    fingerprint: Fingerprint | None = None,
) -> Base:
    """The base model that somebody asks about, by all that is told of it.

    Raises:
        ConfigError: if ``config`` is the configuration of no model.
        HubIdError: if nothing is told.
        HubNotFoundError: if a name is all, and no adapter here is for a model of that name.
    """
    if config is not None:
        return Base.of_config(config, (name,) if name else (), fingerprint=fingerprint)
    if fingerprint is not None:
        return bases.recognised(session, fingerprint if name is None else replace(fingerprint, name=name))
    if not name:
        raise HubIdError("tell the base model by its name, its config.json or its fingerprint")
    return bases.as_base(session, bases.named(session, name)[0])


def verdicts(session: Session, base: Base) -> dict[int, Verdict]:
    """How well what was trained on each base model fits another, by the ids of their rows."""
    return {id: verdict(requirement, base) for id, requirement in bases.requirements(session).items()}


def fitting(found: Mapping[int, Verdict], least: Level = Level.DERIVED) -> frozenset[int]:
    """The ids of rows for ``Filters.bases``: of those that fit as well as ``least``, or better."""
    return frozenset(id for id, one in found.items() if one.level >= least)


def groups(
    session: Session,
    actor: Actor,
    base: Base,
    filters: Filters = Filters(),  # noqa: B008
    *,
    words: str = "",
    least: Level = Level.SHAPE,
    limit: int = 20,
) -> list[Group]:
    """What can be loaded into a base model, the best fitting first; ``limit`` adapters of each group.

    More of a group: ``search`` with ``Filters.bases`` of its rows, after the cursor of its page.
    """
    found = verdicts(session, base)
    counts = facets.by_base(session, actor, replace(filters, bases=fitting(found, least)), words)
    rows = {one.id: one for one in session.scalars(select(BaseModel).where(BaseModel.id.in_(counts)))}
    made = []
    for level in sorted({found[id].level for id in counts}, reverse=True):
        ids = sorted((id for id in counts if found[id].level is level), key=lambda id: (-counts[id], id))
        page = search(session, actor, replace(filters, bases=frozenset(ids)), words=words, limit=limit)
        trained = tuple(Trained(rows[id], found[id], counts[id]) for id in ids)
        made.append(Group(level, trained, sum(one.count for one in trained), page))
    return made


def suitable(session: Session, adapter: Adapter, needs: tuple[Need, ...] = (), most: int = 500) -> list[Trained]:
    """The base models known here that an adapter can be loaded into, the best fitting first, one of each name.

    ``needs`` are what its tensors ask of a base; ``count`` is 1. At most so many base models are looked at.
    """
    if adapter.base is None:
        return []
    requirement = bases.as_requirement(session, adapter.base, needs)
    found: dict[str, Trained] = {}
    for one in session.scalars(select(BaseModel).order_by(BaseModel.id).limit(most)):
        fits = Trained(one, verdict(requirement, bases.as_base(session, one)), 1)
        if one.key not in found or found[one.key].verdict.level < fits.verdict.level:
            found[one.key] = fits
    kept = [one for one in found.values() if one.verdict.level > Level.INCOMPATIBLE]
    return sorted(kept, key=lambda one: (-one.verdict.level, one.base.key))
