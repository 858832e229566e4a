"""Which adapter of this hub an identifier means, for a base model."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, and_, case, false, func, or_, select
from sqlalchemy.orm import Session

from adapterhub.hub.bases import Base
from adapterhub.hub.compatibility import Level, Verdict, verdict
from adapterhub.hub.ids import Coordinate, Identifier, RepositoryId, Revision
from adapterhub.hub.inspecting import AdapterInfo
from adapterhub.hub.resolution import Candidate, Resolution, Wanted
from adapterhub.hub.resolution import resolve as choose
from adapterhub.hub.server import policy
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.catalogue import bases, compatible
from adapterhub.hub.server.database import (
    Account,
    Adapter,
    Alias,
    Commit,
    Dataset,
    FormerName,
    Ref,
    Repository,
    Task,
)

_MOST = 200  # adapters that are compared; they are those that come first by what they are compared by


_NONE = -1e308  # below every score


@dataclass(frozen=True)
class Resolved:
    """An adapter of this hub.

    Attributes:
        adapter: its row; with an ``origin`` the files are elsewhere.
        version: of those at ``origin``, the one that is meant; else None.
    """

    resolution: Resolution
    adapter: Adapter
    version: str | None = None


def resolve(
    session: Session,
    actor: Actor,
    text: str,
    *,
    base: Base | None = None,
    method: str | None = None,
    config_hash: str | None = None,
    version: str | None = None,
    allow_shape: bool = False,
) -> Resolved:
    """The adapter that somebody means, of those that they may see.

    Args:
        base: the model that it shall go into (``compatible.asked``); without one all are as good.
        method, config_hash: what it has to be, and what is preferred.
        version: a branch, a tag or a commit.
        allow_shape: whether it may fit in shape alone.

    Raises:
        HubIdError: if ``text`` is no identifier, or ``version`` no revision.
        HubNotFoundError: if there is none that will do; it tells why, and what is near.
        AmbiguousAdapterError: if several do equally well; it lists them.
    """
    identifier = _parse(session, actor, text)
    wanted = Wanted(
        base=(base.names[0] if base.names else "the base model") if base is not None else None,
        method=method,
        config_hash=config_hash,
        revision=Revision(version) if version else None,
        allow_shape=allow_shape,
    )
    found = compatible.verdicts(session, base) if base is not None else {}
    meant = _meant(identifier)
    pinned = version or any(reading.revision is not None for reading in identifier.readings)
    candidates = _candidates(session, actor, meant, found, wanted, None if pinned else _MOST)
    if not candidates:
        candidates = _candidates(session, actor, _near(identifier), found, wanted, _MOST)
    if pinned:
        candidates = [_with_revisions(session, one) for one in candidates]
    while True:
        chosen = choose(identifier, candidates, wanted)
        adapter = _adapter(session, chosen.candidate)
        if base is None or (problem := _misfit(session, adapter, base)) is None:
            return Resolved(chosen, adapter, _version(adapter, identifier, wanted))
        candidates = [replace(one, verdict=problem) if one is chosen.candidate else one for one in candidates]


def _parse(session: Session, actor: Actor, text: str) -> Identifier:
    """An identifier by the tasks of this hub; another name of what may be seen is told by the one that it has."""
    tasks = dict(session.execute(select(Task.slug, Task.kind)).tuples().all())
    names = [slug for slug, kind in tasks.items() if kind == "task"]
    identifier = Identifier.parse(text, names, [slug for slug in tasks if slug not in names])
    path, *revision = text.removeprefix("@").split("@")
    former = session.get(FormerName, path.lower())
    alias = session.get(Alias, path.lower())
    there = session.scalar(select(Repository.id).where(Repository.key == path.lower()))
    repository_id = there or (former.repository_id if former else None) or (alias.repository_id if alias else None)
    if repository_id is None or (identifier.reference is None and alias is None):
        return identifier
    repository = session.get_one(Repository, repository_id)
    if not policy.may_read(session, actor, repository):
        return identifier
    return Identifier.parse("@".join(["", repository.full_name, *revision]))


def _meant(identifier: Identifier) -> ColumnElement[bool]:
    """What adapters have to be that may be meant."""
    wanted: list[ColumnElement[bool]] = [_at(place) for place in identifier.coordinates]
    if (reference := identifier.reference) is not None:
        wanted.append(Repository.key == reference.repository.key)
    return or_(false(), *wanted)


def _at(place: Coordinate, *, author: bool = True) -> ColumnElement[bool]:
    wanted: list[ColumnElement[bool]] = []
    if place.task is not None:
        wanted += [Task.slug == place.task.lower(), Task.kind == "task"]
    if place.language is not None:
        wanted += [Task.slug == place.language.lower(), Task.kind == "language"]
    if place.dataset is not None:
        wanted.append(Dataset.slug == place.dataset.lower())
    if place.author is not None and author:
        wanted.append(Account.key == place.author.lower())
    return and_(*wanted)


def _near(identifier: Identifier) -> ColumnElement[bool]:
    """What adapters are that an error may mention: of the same task, or by the same author."""
    topics = [replace(one, dataset=None) if one.task or one.language else one for one in identifier.coordinates]
    wanted = [_at(one, author=False) for one in topics]
    if (reference := identifier.reference) is not None:
        wanted.append(Account.key == reference.repository.owner.lower())
    return or_(false(), *wanted)


def _candidates(
    session: Session,
    actor: Actor,
    meant: ColumnElement[bool],
    found: Mapping[int, Verdict],
    wanted: Wanted,
    most: int | None,
) -> list[Candidate]:
    """The adapters that are meant, those first that ``hub.resolution`` would choose: it sees as if it saw them all."""
    columns = (
        Account.name,
        Repository.name,
        Adapter.oid,
        Task.kind,
        Task.slug,
        Dataset.slug,
        Adapter.method,
        Adapter.config_hash,
        Adapter.base_id,
        Adapter.merit,
        Adapter.verified,
        Adapter.is_default,
        Repository.withdrawn,
    )
    rows = session.execute(
        select(*columns)
        .select_from(Adapter)
        .join(Repository, Repository.id == Adapter.repository_id)
        .join(Account, Account.id == Repository.owner_id)
        .outerjoin(Task, Task.id == Adapter.task_id)
        .outerjoin(Dataset, Dataset.id == Adapter.dataset_id)
        .where(policy.visible(actor), meant)
        .order_by(*_order(found, wanted))
        .limit(most)
    )
    unknown = Verdict(Level.INCOMPATIBLE, ("it does not say what base model it is for",)) if found else None
    return [
        Candidate(
            repository=RepositoryId(owner, name),
            commit=oid,
            author=owner,
            task=task if kind == "task" else None,
            dataset=dataset,
            language=task if kind == "language" else None,
            method=method,
            config_hash=config,
            verdict=unknown if base_id is None else found.get(base_id, unknown),
            score=merit if verified else None,
            curated=default,
            withdrawn=gone,
        )
        for owner, name, oid, kind, task, dataset, method, config, base_id, merit, verified, default, gone in rows
    ]


def _order(found: Mapping[int, Verdict], wanted: Wanted) -> list[Any]:
    """As ``hub.resolution`` ranks: not withdrawn, the method, how well it fits, the configuration, then by merit."""
    least = Level.SHAPE if wanted.allow_shape else Level.DERIVED
    levels = defaultdict[int, list[int]](list)
    for id, one in found.items():
        levels[one.level if one.level >= least else Level.INCOMPATIBLE].append(id)
    ranks = [(Adapter.base_id.in_(ids), level) for level, ids in levels.items() if level > Level.INCOMPATIBLE]
    keys: list[ColumnElement[Any]] = [Repository.withdrawn.is_(None)]
    if wanted.method is not None:
        keys.append(Adapter.method == wanted.method)
    if ranks:
        keys.append(case(*ranks, else_=0))
    if wanted.config_hash is not None:
        keys.append(Adapter.config_hash == wanted.config_hash)
    merit = case((Adapter.verified, func.coalesce(Adapter.merit, _NONE)), else_=_NONE)
    return [*(key.desc() for key in (*keys, merit, Adapter.is_default)), Adapter.repository_id]


def _with_revisions(session: Session, one: Candidate) -> Candidate:
    """A candidate with its branches, tags and commits; of what is elsewhere, the versions there."""
    adapter = _adapter(session, one)
    named = select(Ref.name, Ref.oid).where(Ref.repository_id == adapter.repository_id)
    refs = dict(session.execute(named).tuples().all())
    refs |= {version["name"]: adapter.oid for version in (adapter.origin or {}).get("versions", ())}
    commits = session.scalars(select(Commit.oid).where(Commit.repository_id == adapter.repository_id))
    return replace(one, revisions=refs, commits=frozenset(commits))


def _adapter(session: Session, one: Candidate) -> Adapter:
    wanted = select(Adapter).join(Adapter.repository).where(Repository.key == one.repository.key)
    return session.scalars(wanted).one()


def _misfit(session: Session, adapter: Adapter, base: Base) -> Verdict | None:
    """The verdict over all that an adapter needs, if it does not fit by that."""
    commit = session.get(Commit, (adapter.repository_id, adapter.oid))
    if commit is None or commit.info is None or adapter.base is None:
        return None
    needs = AdapterInfo.from_dict(commit.info).needs
    said = verdict(bases.as_requirement(session, adapter.base, needs), base)
    return said if said.level is Level.INCOMPATIBLE else None


def _version(adapter: Adapter, identifier: Identifier, wanted: Wanted) -> str | None:
    if adapter.origin is None:
        return None
    named = [one.revision for one in identifier.readings if one.revision is not None]
    asked = str(next(iter(named), wanted.revision))
    known = {one["name"] for one in adapter.origin.get("versions", ())}
    return asked if asked in known else adapter.origin.get("default_version")
