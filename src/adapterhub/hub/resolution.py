"""One adapter for what a person wrote, of all that a hub has: the same answer for the same adapters, with the reasons.

1. Adapters that the identifier means, as a coordinate or else as a repository; an author who was named is the only one.
2. Of these the ones that have the revision and the method that were asked for, and fit the base model: those that fit
   in shape alone only if they may, and those that were withdrawn only if the revision is a commit.
3. The best of these by how well they fit the base, then by whether they have the configuration that was asked for. If
   they are of several tasks, languages or data sets, nobody can say which is meant.
4. The best of these by verified score, then the one that a curator made the default.

Several that are equal in all of this are an error that lists them.
"""

import difflib
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from adapterhub.errors import AmbiguousAdapterError, HubIdError, HubNotFoundError
from adapterhub.hub.compatibility import Level, Verdict
from adapterhub.hub.ids import Coordinate, Identifier, Reference, RepositoryId, Revision

_LISTED = 10


@dataclass(frozen=True)
class Candidate:
    """An adapter on a hub, in one place of its catalogue.

    Attributes:
        commit: the head of its default branch.
        revisions: commits by the names of its branches and tags.
        commits: all that it has.
        verdict: how well it fits the base model in question; None if there is none.
        score: the best that somebody verified, on the metric of the data set, higher is better.
        curated: whether a curator made it the default of its place.
        withdrawn: why it should not be used any more, or None if it may.
    """

    repository: RepositoryId
    commit: str
    author: str
    task: str | None = None
    dataset: str | None = None
    language: str | None = None
    method: str | None = None
    config_hash: str | None = None
    verdict: Verdict | None = None
    score: float | None = None
    curated: bool = False
    withdrawn: str | None = None
    revisions: Mapping[str, str] = field(default_factory=dict)
    commits: Collection[str] = ()

    @property
    def topic(self) -> tuple[str | None, str | None, str | None]:
        """Task, language and data set."""
        return self.task, self.language, self.dataset

    def __str__(self) -> str:
        if not any(self.topic):
            return str(self.repository)
        return f"{Coordinate(self.task, self.dataset, self.language, self.author)} ({self.repository})"


@dataclass(frozen=True)
class Wanted:
    """What is asked for beside the name.

    Attributes:
        base: the base model in words, for reasons and errors.
        method: a method that it must be of.
        config_hash: a configuration that is preferred.
        revision: a branch, tag or commit that it must have.
        allow_shape: whether an adapter may be chosen that fits in shape alone.
    """

    base: str | None = None
    method: str | None = None
    config_hash: str | None = None
    revision: Revision | None = None
    allow_shape: bool = False


@dataclass(frozen=True)
class Resolution:
    """The adapter that an identifier means.

    Attributes:
        commit: the one to load.
        reasons: why this one, in sentences.
        alternatives: others that would do, by name.
        left_out: others that would not, and why.
    """

    candidate: Candidate
    commit: str
    reasons: tuple[str, ...]
    alternatives: tuple[Candidate, ...] = ()
    left_out: tuple[tuple[Candidate, str], ...] = ()


def resolve(identifier: Identifier, candidates: Iterable[Candidate], wanted: Wanted | None = None) -> Resolution:
    """The adapter that ``identifier`` means among ``candidates``: all that a hub shows, or those that may be meant.

    Raises:
        HubNotFoundError: if there is none, or none that will do; what was left out, and what is near.
        AmbiguousAdapterError: if there are several.
        HubIdError: if two revisions are asked for.
    """
    wanted = wanted or Wanted()
    candidates = sorted(candidates, key=_order)
    reading, meant = _meant(identifier, candidates)
    if reading is None:
        raise HubNotFoundError(f"There is no adapter {identifier} here{_nearby(identifier, candidates)}")
    revision = _revision(identifier, reading, wanted)
    fitting: list[Candidate] = []
    left_out: list[tuple[Candidate, str]] = []
    for one in meant:
        if (problem := _problem(one, revision, wanted)) is None:
            fitting.append(one)
        else:
            left_out.append((one, problem))
    if not fitting:
        raise HubNotFoundError(_none_will_do(identifier, reading, left_out, candidates, wanted))
    best, reasons = _best(identifier, fitting, wanted)
    commit = _commit(best, revision) or best.commit
    others = tuple(one for one in fitting if one.repository.key != best.repository.key)
    return Resolution(best, commit, (_why_meant(reading, best), *reasons), others, tuple(left_out))


def _order(candidate: Candidate) -> tuple[str, ...]:
    return (str(candidate).lower(), str(candidate))


def _meant(
    identifier: Identifier, candidates: list[Candidate]
) -> tuple[Coordinate | Reference | None, list[Candidate]]:
    """The candidates of the first kind of reading that has any, and a reading of this kind."""
    places = [one for one in candidates if any(_is_at(one, coordinate) for coordinate in identifier.coordinates)]
    if places:
        return identifier.coordinates[0], places
    if (reference := identifier.reference) is not None:
        named = [one for one in candidates if one.repository.key == reference.repository.key]
        if named:
            return reference, named
    return None, []


def _is_at(candidate: Candidate, place: Coordinate) -> bool:
    pairs = ((place.task, candidate.task), (place.language, candidate.language), (place.dataset, candidate.dataset))
    if any(wanted is not None and wanted.lower() != (has or "").lower() for wanted, has in pairs):
        return False
    return place.author is None or place.author.lower() == candidate.author.lower()


def _revision(identifier: Identifier, reading: Coordinate | Reference, wanted: Wanted) -> Revision | None:
    named = {revision for revision in (reading.revision, wanted.revision) if revision is not None}
    if len(named) > 1:
        raise HubIdError(f"{identifier} names another revision than {wanted.revision}, which is asked for too")
    return next(iter(named), None)


def _commit(candidate: Candidate, revision: Revision | None) -> str | None:
    """The commit of a revision, if the candidate has it."""
    if revision is None:
        return candidate.commit
    if revision.is_commit:
        return str(revision) if str(revision) in {candidate.commit, *candidate.commits} else None
    return candidate.revisions.get(str(revision))


def _problem(candidate: Candidate, revision: Revision | None, wanted: Wanted) -> str | None:
    """Why a candidate will not do."""
    verdict, base = candidate.verdict, wanted.base or "the base model"
    if _commit(candidate, revision) is None:
        has = ", ".join(sorted(candidate.revisions)[:_LISTED]) or "none by name"
        return f"it has no revision {revision} (there are: {has})"
    if candidate.withdrawn is not None and (revision is None or not revision.is_commit):
        return f"it was withdrawn: {candidate.withdrawn}"
    if wanted.method is not None and candidate.method != wanted.method:
        return f"its method is {candidate.method}, and {wanted.method} is asked for"
    if verdict is not None and verdict.level is Level.INCOMPATIBLE:
        return f"it does not fit {base}: {'; '.join(verdict.reasons)}"
    if verdict is not None and verdict.level is Level.SHAPE and not wanted.allow_shape:
        return f"it fits {base} in shape alone, which must be allowed: {'; '.join(verdict.reasons)}"
    return None


def _best(identifier: Identifier, fitting: list[Candidate], wanted: Wanted) -> tuple[Candidate, list[str]]:
    """The best of the candidates that will do, and why it is."""
    reasons: list[str] = []
    left = _narrowed(fitting, reasons, _level, lambda one: f"it fits best ({_label(one)})")
    left = _narrowed(left, reasons, partial(_is_configured, wanted), lambda one: "it has the configuration asked for")
    if len({one.topic for one in left}) == 1:  # scores on other data are no comparison
        left = _narrowed(left, reasons, _score, lambda one: f"it has the best verified score, {one.score}")
        left = _narrowed(left, reasons, lambda one: one.curated, lambda one: "it is the curator's default")
    if len({one.repository.key for one in left}) > 1:
        raise _ambiguous(identifier, left)
    best = left[0]
    if best.withdrawn is not None:
        reasons.append(f"it was withdrawn ({best.withdrawn}), and is given since its commit was named")
    if best.verdict is not None:
        reasons += best.verdict.reasons
    if wanted.config_hash is not None and not _is_configured(wanted, best):
        reasons.append("its configuration is another one than the one asked for, which none of those that fit best has")
    return best, reasons


def _narrowed(
    candidates: list[Candidate],
    reasons: list[str],
    key: Callable[[Candidate], float],
    why: Callable[[Candidate], str],
) -> list[Candidate]:
    """Those of the highest key; if others go for it, ``reasons`` are told why."""
    most = max(map(key, candidates))
    best = [one for one in candidates if key(one) == most]
    if len(best) < len(candidates):
        reasons.append(f"of {len(candidates)} that will do {why(best[0])}")
    return best


def _level(candidate: Candidate) -> int:
    return 0 if candidate.verdict is None else candidate.verdict.level


def _score(candidate: Candidate) -> float:
    return -math.inf if candidate.score is None else candidate.score


def _is_configured(wanted: Wanted, candidate: Candidate) -> bool:
    return wanted.config_hash is not None and candidate.config_hash == wanted.config_hash


def _label(candidate: Candidate) -> str:
    return "" if candidate.verdict is None else candidate.verdict.level.label


def _why_meant(reading: Coordinate | Reference, candidate: Candidate) -> str:
    if isinstance(reading, Reference):
        return f"it is the repository {candidate.repository}"
    author = f", by {candidate.author} as it was named" if reading.author else ""
    return f"it is at {str(candidate).partition('@')[0]} in the catalogue{author}"


def _ambiguous(identifier: Identifier, candidates: list[Candidate]) -> AmbiguousAdapterError:
    names = _names(candidates)
    return AmbiguousAdapterError(
        f"{identifier} may be one of {len(names)} adapters that will do equally well: {_list(names)}. Name the one "
        "you mean",
        tuple(names),
    )


def _none_will_do(
    identifier: Identifier,
    reading: Coordinate | Reference,
    left_out: list[tuple[Candidate, str]],
    candidates: list[Candidate],
    wanted: Wanted,
) -> str:
    """What was left out and why, and who else has something for the same task that would do."""
    why = "; ".join(f"{one}: {problem}" for one, problem in left_out[:_LISTED])
    more = f"; and {len(left_out) - _LISTED} more" if len(left_out) > _LISTED else ""
    text = f"No adapter {identifier} will do. {why}{more}"
    if isinstance(reading, Coordinate) and reading.author is not None:
        topics = {one.topic for one, _ in left_out}
        others = [one for one in candidates if one.topic in topics and _problem(one, wanted.revision, wanted) is None]
        if others:
            text += f". Of other authors there are {_list(_names(others))}"
    return text


def _nearby(identifier: Identifier, candidates: list[Candidate]) -> str:
    """What there is that was perhaps meant: by the same author, for the same task, or of a similar name."""
    near = [one for one in candidates if any(_is_near(one, place) for place in identifier.coordinates)]
    names = {name.lower(): one for one in candidates for name in (str(one).partition(" ")[0], str(one.repository))}
    close = difflib.get_close_matches(str(identifier).removeprefix("@").lower(), list(names), n=5)
    found = list({str(one): None for one in [*near, *(names[name] for name in close)]})
    return f"; near it are {_list(found)}" if found else ""


def _is_near(candidate: Candidate, place: Coordinate) -> bool:
    pairs = ((place.task, candidate.task), (place.language, candidate.language), (place.dataset, candidate.dataset))
    return any(wanted is not None and has is not None and wanted.lower() == has.lower() for wanted, has in pairs)


def _names(candidates: Iterable[Candidate]) -> list[str]:
    return list({str(one): None for one in candidates})


def _list(names: list[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
