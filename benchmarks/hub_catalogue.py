"""How long a hub with 100,000 adapters takes to search, count, browse, compare and resolve, and to make its pages.

One request at a time. The pages are asked of a server that runs.

python benchmarks/hub_catalogue.py hub_archive.tar.gz [sqlite|postgresql] [adapters] [requests]
"""

import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

import hub_synthetic
from adapterhub.errors import AmbiguousAdapterError, HubNotFoundError
from adapterhub.http.listening import settle
from adapterhub.hub.compatibility import Level
from adapterhub.hub.server.actor import STRANGER, Actor
from adapterhub.hub.server.catalogue import compatible, facets, leaderboard, resolving, search, taxonomy, tree
from adapterhub.hub.server.catalogue.filters import Filters
from adapterhub.hub.server.database import Account, Adapter, Repository
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.settings import Settings
from workers import ROOT, machine, save

sys.path.insert(0, str(ROOT / "tests"))

import hub_pages

Request = Callable[[Session], Any]


class Requests:
    """What people ask, drawn from what there is, so that what is frequent is asked for often."""

    def __init__(self, hub: Hub, seed: int = 1) -> None:
        self.draw = random.Random(seed)
        with hub.database.read() as session:
            some = select(Adapter).join(Adapter.repository).where(Repository.private.is_(False))
            self.rows = [
                (one.repository, one.task, one.dataset, one.base, one.method)
                for one in session.scalars(some.where(Adapter.repository_id % 50 == 7).limit(2000))
                if one.task is not None and one.dataset is not None and one.base is not None
            ]
            owners = session.scalars(select(Account).where(Account.id % 40 == 3).limit(50)).all()
            self.actors = [STRANGER] * 150 + [Actor(one.id, one.name, "read") for one in owners]
            self.actors += [Actor(owners[0].id, owners[0].name, "admin", is_admin=True)] * 5

    def kinds(self) -> dict[str, Callable[[], Request]]:
        """What is measured, each as something that draws a request."""
        return {
            "search words": lambda: self.search(words=self.words(), filters=Filters()),
            "search filters": lambda: self.search(words="", filters=self.filters()),
            "search words and filters": lambda: self.search(words=self.words(), filters=self.filters()),
            "second page": self.second_page,
            "search as you type": lambda: partial(search.suggest, actor=self.actor(), typed=self.typed()),
            "facets": lambda: partial(facets.facets, actor=self.actor(), filters=self.filters(often_none=True)),
            "facets words": lambda: partial(facets.facets, actor=self.actor(), words=self.words()),
            "tree roots": lambda: partial(tree.roots, actor=self.actor(), kind=self.draw.choice(("task", "language"))),
            "tree level": lambda: partial(tree.level, actor=self.actor(), filters=self.place()),
            "leaderboard": self.leaderboard,
            "compatible": self.compatible,
            "resolution": self.resolution,
        }

    def row(self) -> tuple[Any, ...]:
        return self.draw.choice(self.rows)

    def actor(self) -> Actor:
        return self.draw.choice(self.actors)

    def words(self) -> str:
        _, task, dataset, base, method = self.row()
        title = [word for word in dataset.title.split() if len(word) > 2]
        choices = [task.title, dataset.title, dataset.slug, f"{dataset.slug} {method}", f"{task.slug} {base.name}"]
        choices += [base.name, self.draw.choice(title or [task.slug]), f"{method} {task.title}", "legal", "medical qa"]
        return self.draw.choice(choices)

    def typed(self) -> str:
        whole = self.words()
        return whole[: self.draw.randint(2, 9)]

    def filters(self, often_none: bool = False) -> Filters:
        _, task, dataset, base, method = self.row()
        parts: list[dict[str, Any]] = [
            {"task": (task.slug,)},
            {"dataset": (f"{task.slug}/{dataset.slug}",)},
            {"base": (base.name,)},
            {"method": (method,)},
            {"language": (dataset.language or "en",)},
            {"verified": True},
            {"license": ("apache-2.0", "mit")},
            {"max_size": 10_000_000},
        ]
        number = self.draw.choice((0, 0, 1, 1, 2, 3) if often_none else (1, 1, 2, 3))
        return Filters(**{key: value for one in self.draw.sample(parts, number) for key, value in one.items()})

    def place(self) -> Filters:
        _, task, dataset, base, method = self.row()
        steps = {"task": (task.slug,), "dataset": (f"{task.slug}/{dataset.slug}",), "base": (base.name,)}
        steps["method"] = (method,)
        return Filters(**dict(list(steps.items())[: self.draw.randint(1, 4)]))

    def search(self, words: str, filters: Filters) -> Request:
        sort = self.draw.choice((None, None, None, *search.SORTS))
        return partial(search.search, actor=self.actor(), filters=filters, words=words, sort=sort)

    def second_page(self) -> Request:
        filters, actor, sort = self.filters(), self.actor(), self.draw.choice(search.SORTS[1:])

        def ask(session: Session) -> None:
            first = search.search(session, actor, filters, sort=sort)
            search.search(session, actor, filters, sort=sort, after=first.next)

        return ask

    def leaderboard(self) -> Request:
        _, task, dataset, *_ = self.row()
        actor = self.actor()

        def ask(session: Session) -> None:
            place = taxonomy.dataset(session, taxonomy.task(session, task.slug), dataset.slug)
            leaderboard.leaderboard(session, actor, place)

        return ask

    def compatible(self) -> Request:
        base, actor = self.row()[3], self.actor()
        asked: dict[str, Any] = {"config": base.config} if self.draw.random() < 0.3 else {"name": base.name}
        least = self.draw.choice((Level.SHAPE, Level.DERIVED))
        return lambda session: compatible.groups(session, actor, compatible.asked(session, **asked), least=least)

    def resolution(self) -> Request:
        repository, task, dataset, base, method = self.row()
        topic = f"{'lang/' if task.kind == 'language' else ''}{task.slug}/{dataset.slug}"
        author = f"{topic}@{repository.owner.name}"
        written = self.draw.choice((author, author, author, topic, f"@{repository.full_name}", repository.full_name))
        name, how = self.draw.choice((None, base.name, base.name)), self.draw.choice((None, None, method))
        actor = self.actor()

        def ask(session: Session) -> None:
            model = compatible.asked(session, name=name) if name else None
            with suppress(AmbiguousAdapterError, HubNotFoundError):
                resolving.resolve(session, actor, written, base=model, method=how)

        return ask


def measure(hub: Hub, number: int) -> dict[str, Any]:
    """Milliseconds of each kind of request, in turn, so that what disturbs one disturbs all."""
    requests = Requests(hub)
    kinds = requests.kinds()
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for turn in range(number + 5):
        for name, draw in kinds.items():
            ask = draw()
            start = time.perf_counter()
            with hub.database.read() as session:
                ask(session)
            if turn >= 5:  # the first ones warm up
                times[name].append((time.perf_counter() - start) * 1000)
    return {name: hub_pages.summary(values) for name, values in times.items()}


@contextmanager
def opened(kind: str, folder: Path) -> Iterator[tuple[Hub, str]]:
    """A hub on a database, and what that is."""
    if kind == "sqlite":
        hub = Hub.open(Settings(directory=folder))
        yield hub, f"SQLite {sqlite3.sqlite_version}"
        hub.close()
        return
    from hub.server import postgres

    with postgres.running("shared_buffers=512MB", "work_mem=32MB") as server:
        server.run("CREATE DATABASE hub")
        hub = Hub.open(Settings(directory=folder, database=server.url("hub")))
        yield hub, server.version
        hub.close()


def main(archive: str, kind: str = "sqlite", adapters: int = 100_000, number: int = 300) -> None:
    """Fill a hub and measure it; results go to ``results/hub_catalogue_<kind>.json``."""
    before = machine()
    with tempfile.TemporaryDirectory() as folder, opened(kind, Path(folder)) as (hub, database):
        start = time.perf_counter()
        hub_synthetic.fill(
            hub, Path(archive), adapters, told=lambda done: print(f"{done:,}", end="\r", file=sys.stderr)
        )
        filled = time.perf_counter() - start
        with hub.database.write() as session:
            session.execute(text("ANALYZE"))
            rows = session.scalar(select(func.count()).select_from(Adapter))
        settle()  # as the server does
        results = measure(hub, number)
        asked = Requests(hub)
        pages = hub_pages.measure(Path(folder), hub.settings.database, asked.row, asked.words, number)
    versions = {"database": database, "python": sys.version.split()[0], "sqlalchemy": version("sqlalchemy")}
    about = {"machine": before, "versions": versions, "adapters": rows, "requests of each kind": number}
    save(
        f"hub_catalogue_{kind}", {"milliseconds": results, "pages": pages, **about, "seconds to fill": round(filled, 1)}
    )


if __name__ == "__main__":
    main(*sys.argv[1:3], *map(int, sys.argv[3:]))
