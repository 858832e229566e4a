"""Base models as far as the hub knows them: a row for each set of weights, with what they were made of."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from adapterhub.errors import HubIdError, HubNotFoundError
from adapterhub.fingerprint import Fingerprint
from adapterhub.hub.bases import Base, Origin, canonical
from adapterhub.hub.compatibility import Need, Requirement
from adapterhub.hub.inspecting import AdapterInfo
from adapterhub.hub.server import audit, policy
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.database import BaseModel
from adapterhub.hub.server.database.upserting import add_new

_FACTS = ("hidden_size", "layers", "vocab_size")  # what a configuration tells, so that it need not be read each time
RELATIONS = ("finetune", "quantized", "merge", "adapter")


def of_info(session: Session, info: AdapterInfo, name: str | None) -> BaseModel | None:
    """The row of the base model that an adapter was made for, as it describes it."""
    if not name:
        return None
    # How many layers it has is not told by an adapter, which may leave some out.
    return row(
        session, name, info.base_revision, info.fingerprint, model_type=info.model_type, hidden_size=info.hidden_size
    )


def row(
    session: Session,
    name: str,
    revision: str | None = None,
    fingerprint: Fingerprint | None = None,
    *,
    model_type: str | None = None,
    hidden_size: int | None = None,
) -> BaseModel:
    """The row of a model of which just this is known; made if there is none.

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
    add_new(session, BaseModel, identity=identity, **known)
    return session.scalars(found).one()


def named(session: Session, name: str) -> list[BaseModel]:
    """All rows of a name, the one that tells most first.

    Raises:
        HubNotFoundError: if there is none.
    """
    found = list(session.scalars(select(BaseModel).where(BaseModel.key == canonical(name)).order_by(BaseModel.id)))
    if not found:
        raise HubNotFoundError(f"nothing here is for a base model {name!r}: paste its config.json instead")
    return sorted(found, key=lambda one: (one.fingerprint is None, one.config is None))


def describe(session: Session, actor: Actor, name: str, config: Mapping[str, Any]) -> None:
    """Tell what a base model is like, by its ``config.json``.

    Raises:
        ConfigError: if it is the configuration of no model.
        HubAccessError: for who does not administer the server.
    """
    policy.check_server_admin(actor)
    row(session, name)
    for one in named(session, name):
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
    for one in named(session, name):
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


def _fingerprint(name: str, saved: Mapping[str, Any]) -> Fingerprint:
    return Fingerprint.from_dict(saved, f"base model {name}")


def _origins(line: Sequence[Any]) -> tuple[Origin, ...]:
    """Each with how what comes before it in the line was made of it."""
    return tuple(Origin(above.name, below.relation) for below, above in pairwise(line))
