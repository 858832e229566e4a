"""How well adapters do: results that somebody measured, and the leaderboards of data sets."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel, Field

from adapterhub.hub.server import repositories
from adapterhub.hub.server.api.adapters import Name, Owner
from adapterhub.hub.server.api.dossier import ScoreView
from adapterhub.hub.server.api.narrowing import Filtered, Text
from adapterhub.hub.server.api.problems import problems
from adapterhub.hub.server.api.routing import router
from adapterhub.hub.server.api.taxonomy import DatasetName, TaskName
from adapterhub.hub.server.api.views import Listing
from adapterhub.hub.server.catalogue import scores, taxonomy
from adapterhub.hub.server.catalogue.leaderboard import Row, leaderboard
from adapterhub.hub.server.catalogue.scores import Result
from adapterhub.hub.server.context import TheActor, TheHub

routes = router("scores")

Number = Annotated[float, Field(allow_inf_nan=False)]
_ROWS = 1 << 40


class Interval(BaseModel):
    """The 95 % confidence interval of a number."""

    low: Number
    high: Number


class Measured(BaseModel):
    """What somebody has measured, on what, and with what."""

    commit: str = Field(pattern=r"^[0-9a-f]{40}$", description="Of the adapter")
    task: Text
    dataset: Text
    split: str = Field("", max_length=32, pattern=r"^[^\x00]*$")
    metrics: dict[Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00]*$")], Number] = Field(
        min_length=1, max_length=50
    )
    intervals: dict[str, Interval] = Field({}, max_length=50, description="Of some or all of the metrics")
    rows: int | None = Field(None, ge=1, le=_ROWS, description="How many examples there were")
    evidence: dict[str, Any] = Field(
        {}, description="Revision and SHA-256 of the data, versions of the software, seed, fingerprint of the base"
    )

    def results(self) -> list[Result]:
        """As the catalogue has them."""
        made = []
        for name, value in self.metrics.items():
            interval = self.intervals.get(name)
            low, high = (None, None) if interval is None else (interval.low, interval.high)
            data = f"{self.task}/{self.dataset}".lower()
            made.append(Result(name, value, data, self.split, low, high, self.rows))
        return made


class Place(BaseModel):
    """A place on a leaderboard."""

    rank: int
    adapter: Listing
    value: float
    low: float | None
    high: float | None
    split: str
    rows: int | None
    verified: bool
    by: str | None = Field(description="Who measured; None for a claim of the owner")
    commit: str
    created: datetime

    @classmethod
    def of(cls, row: Row) -> "Place":
        """From the catalogue."""
        known: dict[str, Any] = {
            name: getattr(row.score, name) for name in ("value", "low", "high", "split", "rows", "verified", "created")
        }
        adapter = Listing.of(row.adapter)
        return cls(rank=row.rank, adapter=adapter, by=row.verifier or None, commit=row.score.oid, **known)


class Board(BaseModel):
    """The adapters of a data set by one metric: the verified ones first, then what is claimed."""

    task: str
    dataset: str
    metric: str
    higher_is_better: bool
    metrics: list[str] = Field(description="All that there are scores of")
    places: list[Place]


class Ranked(Filtered):
    """Which table, and which adapters of it."""

    metric: str | None = Field(None, max_length=64, description="By default that of the data set")
    limit: int = Field(100, ge=1, le=500)


@routes.post("/adapters/{owner}/{name}/scores", status_code=201, responses=problems(401, 403, 404))
def measured(hub: TheHub, actor: TheActor, owner: Owner, name: Name, found: Measured) -> list[ScoreView]:
    """Record what was measured; it is verified if whoever did so does not belong to the owner of the adapter."""
    with hub.database.write() as session:
        repository = repositories.find(session, actor, owner, name)
        commit = repositories.revision(session, repository, found.commit)
        dataset = taxonomy.dataset(session, taxonomy.task(session, found.task), found.dataset, actor)
        made = scores.measured(session, actor, repository, commit, dataset, found.results(), found.evidence)
        return [ScoreView.of(one, actor.name) for one in made]


@routes.get("/leaderboards/{task}/{dataset}", responses=problems(404))
def board(
    hub: TheHub, actor: TheActor, task: TaskName, dataset: DatasetName, wanted: Annotated[Ranked, Query()]
) -> Board:
    """The best adapters of a data set."""
    with hub.database.read() as session:
        of = taxonomy.dataset(session, taxonomy.task(session, task), dataset, actor)
        found = leaderboard(
            session, actor, of, metric=wanted.metric, filters=wanted.filters(session), limit=wanted.limit
        )
        return Board(
            task=of.task.slug,
            dataset=of.slug,
            metric=found.metric,
            higher_is_better=found.higher_is_better,
            metrics=list(found.metrics),
            places=[Place.of(one) for one in found.rows],
        )
