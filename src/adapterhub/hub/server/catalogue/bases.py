"""Base models as far as the hub knows them: a row for each set of weights, with what they were made of."""

import hashlib
import json
from collections.abc import Mapping
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

RELATIONS = ("finetune", "quantized", "merge", "adapter")


def of_info(session: Session, info: AdapterInfo, name: str | None) -> BaseModel | None:
    """The row of the base model that an adapter was made for, as it describes it."""
    if not name:
        return None
    return row(
        session,
        name,
        info.base_revision,
        info.fingerprint,
        model_type=info.model_type,
        hidden_size=info.hidden_size,
        layers=info.layers,
    )


def row(
    session: Session,
    name: str,
    revision: str | None = None,
    fingerprint: Fingerprint | None = None,
    *,
    model_type: str | None = None,
    hidden_size: int | None = None,
    layers: int | None = None,
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
        "layers": layers,
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
        known["config"] = like.config
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
    Base.of_config(config)
    row(session, name)
    for one in named(session, name):
        one.config = dict(config)
    audit.record(session, actor, "base.describe", canonical(name))
    session.flush()


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
    origins, saved = _origins(session, one), _fingerprint(one)
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


def as_requirement(session: Session, one: BaseModel, needs: tuple[Need, ...] = ()) -> Requirement:
    """A base model as what an adapter was trained on."""
    origins, saved = _origins(session, one), _fingerprint(one)
    if saved is not None:
        return Requirement.of_fingerprint(saved, needs, origins)
    facts = as_base(session, one)
    return Requirement(
        base=one.name,
        revision=one.revision,
        model_type=facts.model_type,
        hidden_size=facts.hidden_size,
        layers=facts.layers,
        vocab_size=facts.vocab_size,
        needs=needs,
        lineage=origins,
    )


def _fingerprint(one: BaseModel) -> Fingerprint | None:
    return None if one.fingerprint is None else Fingerprint.from_dict(one.fingerprint, f"base model {one.name}")


def _origins(session: Session, one: BaseModel) -> tuple[Origin, ...]:
    """Each with how what comes before it in the line was made of it."""
    made, line = [], lineage(session, one)
    for below, above in zip([one, *line], line, strict=False):
        made.append(Origin(above.name, below.relation))
    return tuple(made)
