"""All that is known of one adapter."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from sqlalchemy import select
from sqlalchemy.orm import Session

from adapterhub.errors import HubNotFoundError
from adapterhub.hub.compatibility import Level, Requirement, Verdict, verdict
from adapterhub.hub.inspecting import AdapterInfo
from adapterhub.hub.server import repositories
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.admission import CARD
from adapterhub.hub.server.catalogue import bases, compositions, scores
from adapterhub.hub.server.database import (
    Account,
    Adapter,
    AdapterTag,
    Alias,
    BaseModel,
    Commit,
    FormerName,
    Ref,
    Repository,
    Score,
)
from adapterhub.hub.server.git_objects import Entry
from adapterhub.hub.server.hub import Hub

_COMMITS = 20
_BASES = 50
_LONGEST_CARD = 1 << 20


@dataclass(frozen=True)
class Fit:
    """A base model, by name, and how well it suits the adapter."""

    base: str
    verdict: Verdict


@dataclass(frozen=True)
class Details:
    """An adapter at a commit.

    Attributes:
        adapter: its row in the catalogue, which tells of the main branch.
        info: what the files of the commit are; None if they are elsewhere.
        versions: branches and tags, each with its commit.
        log: the latest commits, the newest first.
        scores: those that hold for the files of this commit, each with the name of who measured ("" for a claim).
        aliases: other names that lead to it.
        used_in: compositions that it is a member of.
        fits: base models known here that it fits, the best first.
    """

    repository: Repository
    commit: Commit
    adapter: Adapter
    info: AdapterInfo | None
    files: dict[str, Entry]
    versions: Sequence[tuple[Ref, Commit]]
    log: Sequence[Commit]
    scores: Sequence[tuple[Score, str]]
    aliases: Sequence[str]
    tags: Sequence[str]
    used_in: Sequence[str]
    fits: Sequence[Fit]


def of(session: Session, actor: Actor, owner: str, name: str, revision: str = repositories.MAIN) -> Details:
    """An adapter at a branch, tag or commit.

    Raises:
        HubNotFoundError: if there is no such repository, or none that may be seen; if it has no such revision, or no
            adapter at it.
    """
    repository = repositories.find(session, actor, owner, name)
    commit = repositories.revision(session, repository, revision)
    adapter = session.get(Adapter, repository.id)
    if adapter is None or (commit.info is None and adapter.origin is None):
        raise HubNotFoundError(f"{repository.full_name} holds no adapter at {revision}")
    info = None if commit.info is None else AdapterInfo.from_dict(commit.info, repository.full_name)
    versions = select(Ref, Commit).join(Commit, (Commit.repository_id == Ref.repository_id) & (Commit.oid == Ref.oid))
    return Details(
        repository,
        commit,
        adapter,
        info,
        repositories.files(commit),
        session.execute(versions.where(Ref.repository_id == repository.id).order_by(Ref.kind, Ref.created.desc()))
        .tuples()
        .all(),
        list(islice(repositories.history(session, repository, commit), _COMMITS)),
        _scores(session, adapter, commit),
        _aliases(session, repository),
        session.scalars(select(AdapterTag.tag).where(AdapterTag.repository_id == repository.id)).all(),
        compositions.used_in(session, actor, repository),
        _fits(session, adapter, info),
    )


def card(hub: Hub, found: Details) -> str:
    """The card (README.md) as it is written; "" without one."""
    readme = found.files.get(CARD)
    if readme is None:
        return ""
    with hub.store.open(readme.sha256) as stream:
        return stream.read(_LONGEST_CARD).decode(errors="replace")


def _scores(session: Session, adapter: Adapter, commit: Commit) -> list[tuple[Score, str]]:
    if adapter.origin is None and scores.content_of(commit) != adapter.content:
        return []
    found = scores.of(session, adapter)
    wanted = select(Account.id, Account.name).where(Account.id.in_({one.verifier_id for one in found} - {None}))
    names = dict(session.execute(wanted).tuples().all())
    return [(one, names.get(one.verifier_id or 0, "")) for one in found]


def _aliases(session: Session, repository: Repository) -> list[str]:
    specs = session.scalars(select(Alias.spec).where(Alias.repository_id == repository.id))
    former = session.scalars(select(FormerName.key).where(FormerName.repository_id == repository.id))
    return sorted({*specs, *former})


def _fits(session: Session, adapter: Adapter, info: AdapterInfo | None) -> list[Fit]:
    """The base models that an adapter fits, each name once."""
    if adapter.base is None:
        return []
    needs = () if info is None else info.needs
    requirement: Requirement = bases.as_requirement(session, adapter.base, needs)
    best: dict[str, Fit] = {}
    shown = BaseModel.public | (BaseModel.id == adapter.base_id)
    for row in session.scalars(select(BaseModel).where(shown).order_by(BaseModel.id)):
        said = verdict(requirement, bases.as_base(session, row))
        if said.level > Level.INCOMPATIBLE and (row.key not in best or said.level > best[row.key].verdict.level):
            best[row.key] = Fit(row.name, said)
    return sorted(best.values(), key=lambda one: (-one.verdict.level, one.base))[:_BASES]
