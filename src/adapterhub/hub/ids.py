"""How adapters on a hub are named: repositories, coordinates in the catalogue, and revisions of either.

==========================  ==========================================================
``sentiment/sst-2@ukp``     task, data set and author
``sentiment/sst-2``         task and data set
``sst-2``                   a task, a language or a data set alone, also ``sst-2@ukp``
``lang/de@ukp``             a language; ``lang/de/wiki@ukp`` and ``de/wiki@ukp`` with the text it was trained on
``me/roberta-sst2``         a repository
``@me/roberta-sst2``        a repository and nothing else
``...@<revision>``          a branch, a tag or a commit after a repository, or after the author of a coordinate
==========================  ==========================================================

No owner has the name of a task, of a language or of a commit, so that on one hub a text has one meaning: after a
coordinate comes the author, after a repository the revision, and 40 hexadecimal digits are a commit after either.
Where it is not known whether ``a/b@c`` starts with a task, it has both readings, the coordinate first.
"""

import re
import unicodedata
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Self
from urllib.parse import unquote, urlsplit

from adapterhub.errors import HubIdError
from adapterhub.hub.reserved import BRANCHES, LANGUAGE_CODES, ROUTES

_NAME = re.compile(r"\w(?:[\w.-]{0,94}\w)?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_PAGE = re.compile(r"/(?P<repository>[^/]+/[^/]+)(?:/(?:tree|resolve|commit|blob|version)/(?P<revision>[^/]+).*)?/?")
_HOW = "use ASCII letters, digits, '-', '_' and '.', at most 96, neither '-' nor '.' first or last, no '--', no '..'"
_HOW_REVISION = "use the name of a branch or tag as git takes it, without '@', or the 40 hexadecimal digits of a commit"
_HOW_IDENTIFIER = "write task/dataset@author, lang/de@author or owner/name, each with @revision after it if needed"


@dataclass(frozen=True)
class RepositoryId:
    """A repository, ``owner/name``, by the rules of the Hugging Face Hub; two that differ in case alone are one.

    Raises:
        HubIdError: if ``owner`` or ``name`` is none.
    """

    owner: str
    name: str

    def __post_init__(self) -> None:
        check_name(self.owner, "owner")
        check_name(self.name, "repository name")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``owner/name`` or ``@owner/name``.

        Raises:
            HubIdError: if ``text`` is not of this form.
        """
        parts = text.removeprefix("@").split("/")
        if len(parts) != 2:
            raise HubIdError(f"{text!r} names no repository: write owner/name")
        return cls(*parts)

    @property
    def key(self) -> str:
        """What is the same for all ways to write it."""
        return str(self).lower()

    def __str__(self) -> str:
        return f"{self.owner}/{self.name}"


@dataclass(frozen=True)
class Revision:
    """A branch, a tag or a commit, by git's rules for names of references, and without ``@``.

    Raises:
        HubIdError: if ``text`` cannot be one.
    """

    text: str

    def __post_init__(self) -> None:
        if problem := _revision_problem(self.text):
            raise HubIdError(f"{self.text!r} is no revision, since {problem}: {_HOW_REVISION}")

    @property
    def is_commit(self) -> bool:
        """Whether it names one commit and so never changes."""
        return bool(_COMMIT.fullmatch(self.text))

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Coordinate:
    """A place in the catalogue: a task or a language, a data set, or both; perhaps the author, and a revision.

    Raises:
        HubIdError: if it names neither, or a revision that is no commit without the author.
    """

    task: str | None = None
    dataset: str | None = None
    language: str | None = None
    author: str | None = None
    revision: Revision | None = None

    def __post_init__(self) -> None:
        for what in ("task", "dataset", "language", "author"):
            if (value := getattr(self, what)) is not None:
                check_name(value, "data set" if what == "dataset" else what)
        if not (self.task or self.language or self.dataset) or (self.task and self.language):
            raise HubIdError("A coordinate has a task or a language, a data set, or one of the former with the latter")
        if self.author is None and self.revision is not None and not self.revision.is_commit:
            raise HubIdError(f"Which author's {self.revision}? Write {self.topic}@author@{self.revision}")
        if self.author is not None and (_COMMIT.fullmatch(self.author) or self.author.lower() in BRANCHES):
            raise HubIdError(f"{self.author!r} is a revision, and the author comes first: {self.topic}@author@revision")

    @property
    def topic(self) -> str:
        """The task or language and the data set, as they are written."""
        parts = ["lang", self.language] if self.language else [self.task]
        return "/".join(part for part in (*parts, self.dataset) if part)

    def __str__(self) -> str:
        return "@".join(str(part) for part in (self.topic, self.author, self.revision) if part)


@dataclass(frozen=True)
class Reference:
    """A repository, perhaps at a revision."""

    repository: RepositoryId
    revision: Revision | None = None

    def __str__(self) -> str:
        return f"{self.repository}@{self.revision}" if self.revision else str(self.repository)


@dataclass(frozen=True)
class Identifier:
    """What a person wrote to name an adapter, and what it may mean.

    Attributes:
        text: as it was written.
        readings: each meaning that it may have; which one it has, a hub tells.
    """

    text: str
    readings: tuple[Coordinate | Reference, ...]

    @classmethod
    def parse(cls, text: str, tasks: Collection[str] | None = None, languages: Collection[str] = ()) -> Self:
        """Read an identifier in any of the forms above.

        ``tasks`` are all that the hub knows, in small letters, or None where that is not known; ``languages`` those
        that it knows beside the ones of two letters.

        Raises:
            HubIdError: if it is of none of the forms.
        """
        path, *suffixes = text.removeprefix("@").split("@")
        words = path.split("/")
        most = 3 if words[0].lower() == "lang" else 2
        if is_place(text) or not all((*words, *suffixes)) or len(words) > most or len(suffixes) > 2:
            raise HubIdError(f"{text!r} is no name of an adapter on a hub: {_HOW_IDENTIFIER}")
        topics = [] if text.startswith("@") else list(_topics([word.lower() for word in words], tasks, languages))
        attempts: list[Callable[[], Coordinate | Reference]] = [partial(_coordinate, one, suffixes) for one in topics]
        known = tasks is not None or any("language" in topic for topic in topics)
        if text.startswith("@") or (len(words) == 2 and not (topics and known)):
            attempts.append(partial(_reference, path, suffixes))
        readings, problems = [], []
        for attempt in attempts:
            try:
                readings.append(attempt())
            except HubIdError as error:
                problems.append(error)
        if not readings:
            raise problems[0]
        return cls(text, tuple(readings))

    @property
    def coordinates(self) -> tuple[Coordinate, ...]:
        """Its meanings as a place in the catalogue."""
        return tuple(reading for reading in self.readings if isinstance(reading, Coordinate))

    @property
    def reference(self) -> Reference | None:
        """Its meaning as a repository."""
        return next((reading for reading in self.readings if isinstance(reading, Reference)), None)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Page:
    """The address of a page of an adapter on a hub: ``https://hub.example.org/me/roberta-sst2/tree/v1``.

    Attributes:
        hub: the address of the hub.
        reference: the repository there, and the revision that the page is of.
    """

    hub: str
    reference: Reference

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an address.

        Raises:
            HubIdError: if it is that of no such page.
        """
        try:
            parts = urlsplit(text)
        except ValueError as error:
            raise HubIdError(f"{text!r} is no address: {error}") from error
        path = _PAGE.fullmatch(parts.path)
        if path is None or parts.scheme not in ("http", "https") or not parts.netloc:
            raise HubIdError(f"{text!r} is no page of an adapter on a hub: write https://HOST/owner/name")
        revision = None if path["revision"] is None else Revision(unquote(path["revision"]))
        return cls(f"{parts.scheme}://{parts.netloc}", Reference(RepositoryId.parse(path["repository"]), revision))


def check_text(text: str) -> None:
    """Pass what a person may write to name an adapter: an identifier, or the address of a page.

    Raises:
        HubIdError: for anything else.
    """
    if "://" in text:
        Page.parse(text)
    else:
        Identifier.parse(text)


def is_place(text: str) -> bool:
    """Whether ``text`` is written as a path or an address, and so is no identifier; a folder may exist all the same."""
    return "://" in text or "\\" in text or text.startswith((".", "/", "~")) or bool(re.match(r"[A-Za-z]:", text))


def check_name(name: str, what: str) -> None:
    """Refuse what can be no owner, repository, task or data set; ``what`` says in the error which one it is.

    Raises:
        HubIdError: if ``name`` breaks the rules of the Hugging Face Hub.
    """
    if not _NAME.fullmatch(name) or "--" in name or ".." in name:
        raise HubIdError(f"{name!r} can be no {what}: {_HOW}")
    if name.lower().endswith(".git"):
        raise HubIdError(f"{name!r} can be no {what}: leave out '.git'")


def check_new_owner(name: str, tasks: Collection[str], languages: Collection[str] = ()) -> None:
    """Refuse what no new user or organisation may be called, on a hub that knows these ``tasks`` and ``languages``.

    Raises:
        HubIdError: if ``name`` is malformed or reserved.
    """
    check_name(name, "owner")
    lower = name.lower()
    if any(lower in words for words in (ROUTES, BRANCHES, LANGUAGE_CODES, tasks, languages)) or _COMMIT.fullmatch(
        lower
    ):
        raise HubIdError(f"{name!r} is reserved, as names of tasks, languages, commits and pages are: choose another")


def skeleton(name: str) -> str:
    """What the eye keeps of a name: owners of one skeleton are easily taken for each other."""
    plain = re.sub(r"[-_.]", "", name.lower()).replace("rn", "m").replace("vv", "w")
    return plain.translate(str.maketrans("01i5", "olls"))


def _topics(
    words: list[str], tasks: Collection[str] | None, languages: Collection[str]
) -> Iterator[dict[str, str | None]]:
    """The places in the catalogue that ``words`` may mean."""
    first, *rest = words
    if first == "lang" and rest:
        yield {"language": rest[0], "dataset": rest[1] if len(rest) == 2 else None}
    elif len(rest) < 2:
        dataset = rest[0] if rest else None
        if first in LANGUAGE_CODES or first in languages:
            yield {"language": first, "dataset": dataset}
        if tasks is None or first in tasks:
            yield {"task": first, "dataset": dataset}
        if dataset is None:
            yield {"dataset": first}


def _coordinate(topic: dict[str, str | None], suffixes: list[str]) -> Coordinate:
    pinned = len(suffixes) == 1 and bool(_COMMIT.fullmatch(suffixes[0]))
    author, revision = (None, *suffixes) if pinned else (*suffixes, None, None)[:2]
    return Coordinate(
        topic.get("task"),
        topic.get("dataset"),
        topic.get("language"),
        author,
        None if revision is None else Revision(revision),
    )


def _reference(path: str, suffixes: list[str]) -> Reference:
    if len(suffixes) > 1:
        raise HubIdError(f"A repository has one revision: write {path}@{suffixes[-1]}")
    return Reference(RepositoryId.parse(path), Revision(suffixes[0]) if suffixes else None)


def _revision_problem(text: str) -> str | None:
    parts = text.split("/")
    if not text or len(text.encode("utf-8", "surrogatepass")) > 255:
        return "it is empty or longer than 255 bytes"
    if re.search(r"[ ~^:?*\[\\@]", text) or any(unicodedata.category(letter)[0] in "CZ" for letter in text):
        return "it holds a space, a control character or one of ~^:?*[\\@"
    if text != unicodedata.normalize("NFC", text):
        return "its letters are not composed (NFC)"
    if any(not part or part.startswith(".") or part.endswith(".lock") for part in parts):
        return "a part of it between '/' is empty, starts with '.' or ends with '.lock'"
    if ".." in text or text.endswith(".") or text.startswith("-"):
        return "it holds '..', ends with '.' or starts with '-'"
    if re.fullmatch("[0-9A-F]{40}", text, re.IGNORECASE) and not _COMMIT.fullmatch(text):
        return "commits are written in small letters"
    return None
