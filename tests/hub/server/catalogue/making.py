"""Adapters put straight into the tables, and what a plain reading of a search over them gives."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.catalogue import bases, indexing, taxonomy, words
from adapterhub.hub.server.catalogue.describing import Description
from adapterhub.hub.server.catalogue.filters import Filters
from adapterhub.hub.server.database import Account, Adapter, Change, Dataset, Repository, Task
from adapterhub.hub.server.hub import Hub

TASKS = ("sentiment/sst-2", "sentiment/imdb", "nli/rte", "de/wiki", "")
BASES = ("roberta-base", "FacebookAI/roberta-base", "gpt2", "")
WORDS = ("robust", "legal", "Légal", "law", "rob", "x2")
_START = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Made:
    """What an adapter is made of; ``place`` is ``task/dataset``."""

    owner: str = "ann"
    private: bool = False
    withdrawn: bool = False
    place: str = "sentiment/sst-2"
    base: str = "roberta-base"
    method: str = "lora"
    license: str = ""
    head: str = ""
    size: int = 1
    downloads: int = 0
    day: int = 0
    merit: float | None = None
    verified: bool = False
    title: str = ""
    text: str = ""
    tags: tuple[str, ...] = ()
    id: int = field(default=0, compare=False)

    @property
    def facets(self) -> dict[str, str]:
        """Its value of each facet."""
        task, _, dataset = self.place.partition("/")
        return {
            "task": task,
            "dataset": self.place if dataset else "",
            "language": "" if not task else "de" if task == "de" else "en",
            "base": self.base.rpartition("/")[2],
            "method": self.method,
            "license": self.license,
            "head": self.head,
            "verified": str(self.verified).lower(),
        }


def adapters(owners: Iterable[str]) -> st.SearchStrategy[list[Made]]:
    """A few adapters, with much that is equal."""
    return st.lists(one(owners), max_size=12)


def one(owners: Iterable[str]) -> st.SearchStrategy[Made]:
    """One of them."""
    texts = st.lists(st.sampled_from(WORDS), max_size=2).map(" ".join)
    return st.builds(
        Made,
        owner=st.sampled_from(list(owners)),
        private=st.booleans(),
        withdrawn=st.sampled_from([False, False, True]),
        place=st.sampled_from(TASKS),
        base=st.sampled_from(BASES),
        method=st.sampled_from(["lora", "bottleneck"]),
        license=st.sampled_from(["", "mit", "apache-2.0"]),
        head=st.sampled_from(["", "classification"]),
        size=st.integers(1, 4),
        downloads=st.integers(0, 3),
        day=st.integers(0, 2),
        merit=st.sampled_from([None, 0.5, 0.25, -3.0]),
        verified=st.booleans(),
        title=texts,
        text=texts,
        tags=st.lists(st.sampled_from(["a", "b"]), max_size=2, unique=True).map(tuple),
    )


def add(session: Session, made: Made) -> Repository:
    """Put an adapter into the tables, and its words beside it."""
    owner = session.scalars(select(Account).where(Account.key == made.owner)).one()
    number = session.query(Change).count() + session.query(Repository).count()
    name, when = f"r{number}", _START + timedelta(days=made.day)
    repository = Repository(owner=owner, name=name, key=f"{owner.key}/{name}", private=made.private)
    repository.downloads, repository.updated = made.downloads, when
    repository.withdrawn = "wrong" if made.withdrawn else None
    session.add(repository)
    session.flush()
    task, dataset = _place(session, made.place)
    base = bases.row(session, made.base) if made.base else None
    session.add(
        Adapter(
            repository_id=repository.id,
            oid="0" * 40,
            format="peft",
            method=made.method,
            base_id=None if base is None else base.id,
            task_id=None if task is None else task.id,
            dataset_id=None if dataset is None else dataset.id,
            language=made.facets["language"],
            license=made.license,
            head=made.head,
            size=made.size,
            title=made.title,
            merit=made.merit,
            verified=made.verified,
        )
    )
    session.flush()
    indexing.tag(session, repository.id, made.tags)
    said = Description(title=made.title, body=made.text, tags=made.tags)
    texts = indexing.texts(repository.full_name, said, made.method, made.facets["language"], task, dataset, made.base)
    words.put(session, repository.id, texts)
    return repository


def fill(hub: Hub, some: Iterable[Made]) -> list[Made]:
    """Have these adapters and no others; returns them with their ids."""
    with hub.database.write() as session:
        for one in session.scalars(select(Repository.id)).all():
            indexing.forget(session, one)
        session.execute(delete(Repository))
        return [replace(one, id=add(session, one).id) for one in some]


def expected(
    some: list[Made], sees: set[str] | None, filters: Filters, asked: str = "", without: str = ""
) -> list[Made]:
    """Those that a search has to find, in any order; ``sees`` are the owners whose private ones are seen."""
    return [
        one
        for one in some
        if (not one.private or sees is None or one.owner in sees)
        and has_words(one, asked, everywhere=True)
        and all(_passes(one, name, getattr(filters, name)) for name in vars(filters) if name != without)
    ]


def counts(some: list[Made], name: str) -> dict[str, int]:
    """How many there are of each value."""
    return dict(Counter(one.facets[name] for one in some if one.facets[name]))


def has_words(one: Made, asked: str, *, everywhere: bool) -> bool:
    """Whether all words are there, the last one perhaps not whole."""
    place = one.place.replace("de/wiki", "de/wiki German").replace("nli", "nli Natural Language Inference")
    known = _TITLES.get(one.place, place)
    here = {
        *words.split(f"{one.owner} {one.title} {known} {one.base} {one.method} {one.facets['language']}"),
        *one.tags,
    }
    if everywhere:
        here |= set(words.split(one.text))
    asked_words = words.split(asked)
    last = "" if asked[-1:].isspace() else (asked_words or [""])[-1]
    return all(word in here or (word == last and any(had.startswith(word) for had in here)) for word in asked_words)


_TITLES: dict[str, str] = {}


def learn_titles(session: Session) -> None:
    """The names of places as the shipped taxonomy has them."""
    for place in TASKS:
        task, dataset = _place(session, place)
        if task is not None and dataset is not None:
            _TITLES[place] = f"{task.slug} {task.title} {dataset.slug} {dataset.title}"


def _place(session: Session, place: str) -> tuple[Task | None, Dataset | None]:
    if not place:
        return None, None
    slug, _, name = place.partition("/")
    task = taxonomy.task(session, slug)
    return task, taxonomy.dataset(session, task, name)


def _passes(one: Made, name: str, value: Any) -> bool:
    if value in ((), None):
        return True
    match name:
        case "min_size":
            return one.size >= value
        case "max_size":
            return one.size <= value
        case "tag":
            return set(value) <= set(one.tags)
        case "owner":
            return one.owner in value
        case "verified" | "withdrawn":
            return bool(getattr(one, name)) == value
        case "base":
            return one.facets["base"] in {base.rpartition("/")[2].lower() for base in value}
        case "dataset":
            return one.place in value or one.place.partition("/")[2] in value
        case _:
            return one.facets[name] in value


def sees(actor: Actor) -> set[str] | None:
    """The owners whose private adapters somebody of the tests sees."""
    return None if actor.is_admin else {"ann": {"ann", "lab"}, "bob": {"bob"}}.get(actor.name, set())
