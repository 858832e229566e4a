"""Base models as far as the hub knows them: a row for each set of weights, with what they were made of."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from adapterhub.errors import HubConflictError, HubIdError, HubNotFoundError
from adapterhub.fingerprint import Fingerprint, Match, comparable, compare
from adapterhub.hub.bases import Base, Origin, canonical, is_public
from adapterhub.hub.compatibility import Requirement
from adapterhub.hub.inspecting import AdapterInfo, Need
from adapterhub.hub.server import audit, policy
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.catalogue.facets import by_base
from adapterhub.hub.server.catalogue.filters import Filters
from adapterhub.hub.server.database import BaseModel
from adapterhub.hub.server.database.upserting import add_new

_FACTS = ("hidden_size", "layers", "vocab_size")  # what a configuration tells, so that it need not be read each time
RELATIONS = ("finetune", "quantized", "merge", "adapter")


@dataclass(frozen=True)
class Known:
    """What is known of a base model: its rows, the one that tells most first, and how many adapters are for it."""

    name: str
    base: Base
    rows: tuple[BaseModel, ...]
    adapters: int


@dataclass(frozen=True)
class Listed:
    """A base model in a list."""

    name: str
    model_type: str
    adapters: int


def of_info(session: Session, info: AdapterInfo, name: str | None, *, public: bool) -> BaseModel | None:
    """The row of the base model that an adapter was made for, as it describes it; ``public`` if the adapter is."""
    if not name:
        return None
    # How many layers it has is not told by an adapter, which may leave some out.
    return row(
        session,
        name,
        info.base_revision,
        info.fingerprint,
        model_type=info.model_type,
        hidden_size=info.hidden_size,
        public=public,
    )


def row(
    session: Session,
    name: str,
    revision: str | None = None,
    fingerprint: Fingerprint | None = None,
    *,
    model_type: str | None = None,
    hidden_size: int | None = None,
    public: bool = True,
) -> BaseModel:
    """The row of a model of which just this is known; made if there is none, and ``public`` from then on if so told.

    What a curator told of the name holds for it too.
    """
    known = {
        "name": name,
        "key": canonical(name),
        "revision": revision,
        "model_type": model_type or "",
        "fingerprint": None if fingerprint is None else fingerprint.to_dict(),
        "hidden_size": hidden_size,
    }
    text = json.dumps(known | {"name": ""}, sort_keys=True)
    identity = hashlib.sha256(text.encode()).hexdigest()
    found = select(BaseModel).where(BaseModel.identity == identity)
    if (there := session.scalar(found)) is not None:
        there.public = there.public or public
        return there
    like = session.scalar(
        select(BaseModel).where(BaseModel.key == known["key"], BaseModel.config.is_not(None)).limit(1)
    )
    made_of = session.scalar(select(BaseModel).where(BaseModel.key == known["key"], BaseModel.relation != "").limit(1))
    if like is not None:
        known |= {"config": like.config, "layers": like.layers, "vocab_size": like.vocab_size}
        known["hidden_size"] = hidden_size or like.hidden_size
    if made_of is not None:
        known |= {"parent_id": made_of.parent_id, "relation": made_of.relation}
    add_new(session, BaseModel, identity=identity, public=public, **known)
    return session.scalars(found).one()


def named(session: Session, name: str) -> list[BaseModel]:
    """All rows of a public name, the one that tells most first.

    Raises:
        HubNotFoundError: if there is none.
    """
    found = [one for one in _all(session, name) if one.public]
    if not found:
        raise HubNotFoundError(f"nothing here is for a base model {name!r}: paste its config.json instead")
    return sorted(found, key=lambda one: (one.fingerprint is None, one.config is None))


def recognised(session: Session, fingerprint: Fingerprint) -> Base:
    """The model of a fingerprint, with the names and the origin of what is known here to have the same weights."""
    made = Base.of_fingerprint(fingerprint)
    same = [one for name in made.names for one in _all(session, name) if one.public]
    if fingerprint.shape is not None and fingerprint.weights is not None:
        alike = BaseModel.fingerprint["shape"].as_string() == fingerprint.shape
        rows = session.scalars(select(BaseModel).where(BaseModel.public, alike).order_by(BaseModel.id))
        same = [*(one for one in rows if _is_same(_fingerprint(one.name, one.fingerprint or {}), fingerprint)), *same]
    names = tuple(dict.fromkeys((*made.names, *(one.name for one in same))))
    origins = (_origins([one, *lineage(session, one)]) for one in same)
    return replace(made, names=names, lineage=next(filter(None, origins), ()))


def known(session: Session, actor: Actor, name: str) -> Known:
    """What is known of a base model.

    Raises:
        HubNotFoundError: if nothing is.
    """
    rows, counts = named(session, name), by_base(session, actor, Filters())
    number = sum(counts.get(one.id, 0) for one in _all(session, name))
    return Known(rows[0].name, as_base(session, rows[0]), tuple(rows), number)


def listed(session: Session, actor: Actor, text: str, limit: int) -> list[Listed]:
    """Public base models with a text in their names, those with most adapters first."""
    counts, found = by_base(session, actor, Filters()), dict[str, Listed]()
    wanted = select(BaseModel).where(BaseModel.public, BaseModel.key.contains(text.strip().lower(), autoescape=True))
    for one in session.scalars(wanted.order_by(BaseModel.id)):
        before = found.get(one.key, Listed(one.name, "", 0))
        number = before.adapters + counts.get(one.id, 0)
        found[one.key] = Listed(before.name, before.model_type or one.model_type, number)
    return sorted(found.values(), key=lambda one: (-one.adapters, one.name.lower()))[:limit]


def register(session: Session, actor: Actor, name: str, revision: str | None, fingerprint: Fingerprint) -> None:
    """Tell what the weights of a public base model are like.

    Raises:
        HubAccessError: without a token to write.
        HubIdError: for a name that is a path.
        HubConflictError: if a curator has told of the name what contradicts the fingerprint.
    """
    policy.check_scope(actor, "write")
    if not is_public(name):
        raise HubIdError(f"{name!r} is no name of a base model on a hub")
    saved = replace(fingerprint, name=name, revision=revision or fingerprint.revision)
    for one in _all(session, name):
        facts = Base() if one.config is None else Base.of_config(one.config)
        for then, now in ((facts.model_type, saved.model_type), (facts.hidden_size, saved.hidden_size)):
            if then and now and then != now:
                raise HubConflictError(f"{name} is known here with {then!r}, and the fingerprint says {now!r}")
    row(
        session,
        name,
        saved.revision,
        saved,
        model_type=saved.model_type,
        hidden_size=saved.hidden_size or None,
    )
    audit.record(session, actor, "base.register", canonical(name), revision=saved.revision)


def describe(session: Session, actor: Actor, name: str, config: Mapping[str, Any]) -> None:
    """Tell what a base model is like, by its ``config.json``.

    Raises:
        ConfigError: if it is the configuration of no model.
        HubAccessError: for who does not administer the server.
    """
    policy.check_server_admin(actor)
    row(session, name)
    for one in _all(session, name):
        set_config(one, config)
    audit.record(session, actor, "base.describe", canonical(name))
    session.flush()


def set_config(one: BaseModel, config: Mapping[str, Any]) -> None:
    """Keep a ``config.json`` with what it tells.

    Raises:
        ConfigError: if it is the configuration of no model.
    """
    facts = Base.of_config(config)
    one.config, one.model_type = dict(config), facts.model_type or ""
    for name in _FACTS:
        setattr(one, name, getattr(facts, name))


def declare(session: Session, actor: Actor, name: str, parent: str, relation: str) -> None:
    """Tell what a base model was made of, and how.

    Raises:
        HubAccessError: for who does not administer the server.
        HubIdError: for a relation that there is none of, or a model made of itself.
    """
    policy.check_server_admin(actor)
    if relation not in RELATIONS:
        raise HubIdError(f"a model is a {', '.join(RELATIONS)} of another, and no {relation!r}")
    above = row(session, parent)
    if canonical(name) in {above.key, *(one.key for one in lineage(session, above))}:
        raise HubIdError(f"{parent} was made of {name} itself")
    row(session, name)
    for one in _all(session, name):
        one.parent_id, one.relation = above.id, relation
    audit.record(session, actor, "base.declare", canonical(name), parent=above.key, relation=relation)
    session.flush()


def lineage(session: Session, one: BaseModel) -> list[BaseModel]:
    """What a base model was made of, the closest first."""
    found = list[BaseModel]()
    while one.parent_id is not None:
        one = session.get_one(BaseModel, one.parent_id)
        found.append(one)
    return found


def as_base(session: Session, one: BaseModel) -> Base:
    """A base model as something that an adapter may be loaded into."""
    origins = _origins([one, *lineage(session, one)])
    saved = None if one.fingerprint is None else _fingerprint(one.name, one.fingerprint)
    if one.config is not None:
        return Base.of_config(one.config, (one.name,), one.revision, saved, origins)
    if saved is not None:
        return Base.of_fingerprint(saved, origins)
    return Base(
        names=(one.name,),
        revision=one.revision,
        model_type=one.model_type or None,
        hidden_size=one.hidden_size,
        layers=one.layers,
        lineage=origins,
    )


def requirements(session: Session) -> dict[int, Requirement]:
    """Each base model as what an adapter was trained on, by the ids of their rows."""
    columns = ("id", "name", "parent_id", "relation", "revision", "fingerprint", "model_type", *_FACTS)
    rows = {one.id: one for one in session.execute(select(*(getattr(BaseModel, name) for name in columns)))}
    found = {}
    for one in rows.values():
        line = [one]
        while (parent := rows.get(line[-1].parent_id)) is not None:
            line.append(parent)
        found[one.id] = _requirement(one, _origins(line))
    return found


def as_requirement(session: Session, one: BaseModel, needs: tuple[Need, ...]) -> Requirement:
    """A base model as what an adapter with such needs was trained on."""
    return replace(_requirement(one, _origins([one, *lineage(session, one)])), needs=needs)


def _requirement(one: Any, origins: tuple[Origin, ...]) -> Requirement:
    if one.fingerprint is not None:
        return Requirement.of_fingerprint(_fingerprint(one.name, one.fingerprint), lineage=origins)
    return Requirement(
        base=one.name,
        revision=one.revision,
        model_type=one.model_type or None,
        lineage=origins,
        **{name: getattr(one, name) for name in _FACTS},
    )


def _is_same(one: Fingerprint, other: Fingerprint) -> bool:
    """Whether weights were compared and are the same, in this or another precision."""
    return comparable(one.weights, other.weights) and compare(one, other)[0] in (Match.EXACT, Match.SAME)


def _all(session: Session, name: str) -> list[BaseModel]:
    return list(session.scalars(select(BaseModel).where(BaseModel.key == canonical(name)).order_by(BaseModel.id)))


def _fingerprint(name: str, saved: Mapping[str, Any]) -> Fingerprint:
    return Fingerprint.from_dict(saved, f"base model {name}")


def _origins(line: Sequence[Any]) -> tuple[Origin, ...]:
    """Each with how what comes before it in the line was made of it."""
    return tuple(Origin(above.name, below.relation) for below, above in pairwise(line))
