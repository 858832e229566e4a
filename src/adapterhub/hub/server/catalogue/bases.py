"""Base models as far as the hub knows them: a row for each set of weights, with what they were made of."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from adapterhub.errors import HubIdError, HubNotFoundError
from adapterhub.fingerprint import Fingerprint
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
    return row(session, name, info.base_revision, info.fingerprint, model_type=info.model_type or "")


def row(
    session: Session,
    name: str,
    revision: str | None = None,
    fingerprint: Fingerprint | None = None,
    *,
    model_type: str = "",
) -> BaseModel:
    """The row of these weights; a new one if nothing of the kind was there."""
    saved = None if fingerprint is None else fingerprint.to_dict()
    known = {"name": name.lower(), "revision": revision, "fingerprint": saved}
    identity = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()
    add_new(
        session,
        BaseModel,
        name=name,
        key=name.lower(),
        revision=revision,
        identity=identity,
        model_type=model_type,
        fingerprint=saved,
    )
    return session.scalars(select(BaseModel).where(BaseModel.identity == identity)).one()


def named(session: Session, name: str) -> list[BaseModel]:
    """All rows of a name, the one that tells most first.

    Raises:
        HubNotFoundError: if there is none.
    """
    found = list(session.scalars(select(BaseModel).where(BaseModel.key == name.lower()).order_by(BaseModel.id)))
    if not found:
        raise HubNotFoundError(f"no adapter here is for a base model {name!r}: paste its config.json")
    return sorted(found, key=lambda one: (one.fingerprint is None, one.config is None))


def describe(session: Session, actor: Actor, name: str, config: Mapping[str, Any]) -> None:
    """Tell what a base model is like, by its ``config.json``.

    Raises:
        HubAccessError: for who does not administer the server.
    """
    policy.check_server_admin(actor)
    for one in named(session, name):
        one.config, one.model_type = dict(config), one.model_type or str(config.get("model_type", ""))
    audit.record(session, actor, "base.describe", name.lower())


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
    if name.lower() in {one.key for one in lineage(session, above)} | {above.key}:
        raise HubIdError(f"{parent} was made of {name} itself")
    row(session, name)
    for one in named(session, name):
        one.parent_id, one.relation = above.id, relation
    audit.record(session, actor, "base.declare", name.lower(), parent=above.key, relation=relation)
    session.flush()


def lineage(session: Session, one: BaseModel) -> list[BaseModel]:
    """What a base model was made of, the closest first."""
    found = list[BaseModel]()
    while one.parent_id is not None:
        one = session.get_one(BaseModel, one.parent_id)
        if any(one.key == before.key for before in found):
            break
        found.append(one)
    return found
