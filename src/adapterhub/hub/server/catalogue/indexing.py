"""The row by which an adapter is found, kept in step with the main branch of its repository."""

import hashlib
import json

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from adapterhub.hub.inspecting import AdapterInfo
from adapterhub.hub.server.admission import Findings
from adapterhub.hub.server.database import Adapter, BaseModel, Commit, Repository
from adapterhub.hub.server.database.upserting import add_new


def index(session: Session, repository: Repository, commit: Commit, findings: Findings) -> None:
    """Put the row of a repository in the place of the one before; without an adapter there is none."""
    session.execute(delete(Adapter).where(Adapter.repository_id == repository.id))
    if (info := findings.info) is None:
        return
    base = base_model(session, info)
    session.add(
        Adapter(
            repository_id=repository.id,
            oid=commit.oid,
            kind=info.kind,
            format=info.format,
            method=info.method,
            config_hash=info.config_hash,
            base_id=None if base is None else base.id,
            head=info.head.kind if info.head is not None else "",
            parameters=info.parameters,
            size=info.size,
        )
    )
    session.flush()


def base_model(session: Session, info: AdapterInfo) -> BaseModel | None:
    """The base model that an adapter was made for, as it describes it."""
    if not info.base:
        return None
    fingerprint = None if info.fingerprint is None else info.fingerprint.to_dict()
    known = {"name": info.base.lower(), "revision": info.base_revision, "fingerprint": fingerprint}
    identity = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()
    add_new(
        session,
        BaseModel,
        name=info.base,
        key=info.base.lower(),
        revision=info.base_revision,
        identity=identity,
        model_type=info.model_type or "",
        fingerprint=fingerprint,
    )
    return session.scalar(select(BaseModel).where(BaseModel.identity == identity))
