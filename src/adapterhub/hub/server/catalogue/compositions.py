"""Compositions of adapters of this hub: that their members are there, who can load them, and where they are used."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from adapterhub.errors import HubNotFoundError, UploadRefusedError
from adapterhub.fingerprint import Match, compare
from adapterhub.hub.bases import canonical
from adapterhub.hub.inspecting import AdapterInfo
from adapterhub.hub.recipe import Recipe
from adapterhub.hub.server import policy, repositories
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.database import Commit, Member, Repository
from adapterhub.hub.server.git_objects import Entry


@dataclass(frozen=True)
class Part:
    """A member of a composition: what it is called there, and its files."""

    name: str
    kind: str
    repository: Repository
    commit: Commit

    @property
    def files(self) -> dict[str, Entry]:
        """By path."""
        return repositories.files(self.commit)


def recipe_of(info: AdapterInfo | None) -> Recipe | None:
    """The recipe of a composition that is one; a whole setup brings its members along, and has none."""
    if info is None or info.kind != "composition" or "members" not in info.config:
        return None
    return Recipe.from_dict(info.config)


def parts(session: Session, actor: Actor, recipe: Recipe) -> Iterator[Part]:
    """The members of a composition.

    Raises:
        HubNotFoundError: for one that is not there (any more), or may not be seen.
    """
    for name, member in recipe.members.items():
        try:
            repository = repositories.find(session, actor, member.repository.owner, member.repository.name)
            commit = repositories.revision(session, repository, str(member.revision))
        except HubNotFoundError as error:
            raise HubNotFoundError(f"the composition needs {member} as {name!r}: {error}") from error
        yield Part(name, recipe.kind(name), repository, commit)


def parts_of(session: Session, actor: Actor, commit: Commit) -> list[Part]:
    """The members of what is in a commit; none if that is no composition.

    Raises:
        HubNotFoundError: as ``parts``.
    """
    recipe = recipe_of(None if commit.info is None else AdapterInfo.from_dict(commit.info, commit.oid))
    return [] if recipe is None else list(parts(session, actor, recipe))


def completed(session: Session, actor: Actor, repository: Repository, info: AdapterInfo) -> AdapterInfo:
    """A composition with what its members tell of it; anything else as it is.

    Raises:
        UploadRefusedError: if a member is not there or not of the right kind, was withdrawn, cannot be seen by all who
            see the composition, or is for another base model.
    """
    if (recipe := recipe_of(info)) is None:
        return info
    try:
        found = list(parts(session, actor, recipe))
    except HubNotFoundError as error:
        raise UploadRefusedError(str(error)) from error
    infos = {part.name: _info(part, repository) for part in found}
    first = next(iter(infos.values()))
    for name, other in infos.items():
        if not _is_same_base(first, other):
            raise UploadRefusedError(f"the members are for several base models: {name!r} is for {other.base}")
    if first.base is not None and canonical(first.base) != canonical(recipe.base):
        raise UploadRefusedError(f"the composition is for {recipe.base}, and its members are for {first.base}")
    return replace(
        info,
        fingerprint=first.fingerprint,
        model_type=first.model_type,
        hidden_size=first.hidden_size,
        methods=tuple(dict.fromkeys(method for one in infos.values() for method in one.methods)),
        parameters=sum(one.parameters for one in infos.values()),
        dtypes=tuple(sorted({dtype for one in infos.values() for dtype in one.dtypes})),
        size=sum(one.size for one in infos.values()),
        head=next((infos[name].head for name in recipe.heads), None),
        needs=tuple(dict.fromkeys(need for one in infos.values() for need in one.needs)),
    )


def index(session: Session, actor: Actor, repository: Repository, info: AdapterInfo | None) -> None:
    """Keep which adapters the main branch of a repository is made of."""
    session.execute(delete(Member).where(Member.composition_id == repository.id))
    if (recipe := recipe_of(info)) is not None:
        for part in parts(session, actor, recipe):
            one = Member(composition_id=repository.id, name=part.name, repository_id=part.repository.id)
            one.oid = part.commit.oid
            session.add(one)
    session.flush()


def used_in(session: Session, actor: Actor, repository: Repository) -> list[str]:
    """The compositions of which an adapter is a member, as far as they may be seen."""
    wanted = (
        select(Repository)
        .join(Member, Member.composition_id == Repository.id)
        .where(Member.repository_id == repository.id, policy.visible(actor))
        .order_by(Repository.key)
        .distinct()
    )
    return [one.full_name for one in session.scalars(wanted)]


def _info(part: Part, composition: Repository) -> AdapterInfo:
    """What a member is, if it may be one."""
    where = f"{part.repository.full_name} at {part.commit.oid}"
    if part.repository.private and (not composition.private or part.repository.owner_id != composition.owner_id):
        raise UploadRefusedError(f"{where} is private: not all who see the composition could load it")
    if part.repository.withdrawn is not None:
        raise UploadRefusedError(f"{where} was withdrawn: {part.repository.withdrawn}")
    if part.commit.info is None:
        raise UploadRefusedError(f"{where} holds no adapter")
    info = AdapterInfo.from_dict(part.commit.info, where)
    if info.kind != part.kind:
        raise UploadRefusedError(f"{where} is of the kind {info.kind!r}, and {part.name!r} has to be a {part.kind!r}")
    return info


def _is_same_base(one: AdapterInfo, other: AdapterInfo) -> bool:
    if one.fingerprint is not None and other.fingerprint is not None:
        return compare(one.fingerprint, other.fingerprint)[0] in (Match.EXACT, Match.SAME)
    return one.base is None or other.base is None or canonical(one.base) == canonical(other.base)
