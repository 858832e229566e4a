"""The adapters of a data set by their scores: the verified ones first, then what is claimed."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from adapterhub.hub.server import policy
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.catalogue.filters import Filters, condition
from adapterhub.hub.server.catalogue.scores import higher_is_better, metric_name
from adapterhub.hub.server.database import Account, Adapter, Dataset, Score


@dataclass(frozen=True)
class Row:
    """A place on a leaderboard; ``verifier`` is who measured, or "" for a claim of the card."""

    rank: int
    adapter: Adapter
    score: Score
    verifier: str


@dataclass(frozen=True)
class Leaderboard:
    """A table of a data set; ``metrics`` are all that there are scores of, ``metric`` the one it goes by."""

    metric: str
    higher_is_better: bool
    metrics: tuple[str, ...]
    rows: tuple[Row, ...]


def leaderboard(
    session: Session,
    actor: Actor,
    dataset: Dataset,
    *,
    metric: str | None = None,
    filters: Filters = Filters(),  # noqa: B008
    limit: int = 100,
) -> Leaderboard:
    """The best adapters of a data set that somebody may see, each with its newest score of the best kind.

    Args:
        metric: by default that of the data set, or the most frequent where it has none.
    """
    metrics = _metrics(session, actor, dataset, filters)
    own = metric_name(dataset.metric)
    chosen = metric_name(metric) if metric else own or next(iter(metrics), "")
    up = dataset.higher_is_better if chosen == own else higher_is_better(chosen)
    newest = (
        _scores(actor, session, dataset, filters, Score.id.label("id"), func.row_number().over(
            partition_by=Score.repository_id, order_by=(Score.verified.desc(), Score.created.desc(), Score.id.desc())
        ).label("place"))
        .where(Score.metric == chosen)
        .subquery()
    )  # fmt: skip
    value = Score.value.desc() if up else Score.value
    wanted = (
        select(Adapter, Score, Account.name)
        .join(newest, newest.c.id == Score.id)
        .join(Adapter, Adapter.repository_id == Score.repository_id)
        .join(Account, Account.id == Score.verifier_id, isouter=True)
        .where(newest.c.place == 1)
        .order_by(Score.verified.desc(), value, Score.id)
        .limit(limit)
    )
    found = session.execute(wanted).all()
    rows = tuple(Row(rank, adapter, score, name or "") for rank, (adapter, score, name) in enumerate(found, 1))
    return Leaderboard(chosen, up, metrics, rows)


def _metrics(session: Session, actor: Actor, dataset: Dataset, filters: Filters) -> tuple[str, ...]:
    number = func.count()
    wanted = _scores(actor, session, dataset, filters, Score.metric).group_by(Score.metric)
    return tuple(session.scalars(wanted.order_by(number.desc(), Score.metric)))


def _scores(actor: Actor, session: Session, dataset: Dataset, filters: Filters, *columns: Any) -> Select[Any]:
    """Scores on the data set that hold for adapters as they are now, and may be seen."""
    return (
        select(*columns)
        .select_from(Score)
        .join(Adapter, Adapter.repository_id == Score.repository_id)
        .join(Adapter.repository)
        .where(Score.dataset_id == dataset.id, Score.content == Adapter.content)
        .where(policy.visible(actor), condition(session, filters))
    )


def boards(session: Session, actor: Actor) -> list[tuple[Dataset, int]]:
    """The data sets that have scores, each with the number of adapters that have one; the most first."""
    number = func.count(Score.repository_id.distinct())
    wanted = (
        select(Score.dataset_id, number)
        .join(Adapter, Adapter.repository_id == Score.repository_id)
        .join(Adapter.repository)
        .where(Score.dataset_id.is_not(None), Score.content == Adapter.content, policy.visible(actor))
        .group_by(Score.dataset_id)
        .order_by(number.desc(), Score.dataset_id)
    )
    return [(session.get_one(Dataset, id), count) for id, count in session.execute(wanted)]
