"""The adapters of a data set by their scores: the verified ones first, then what is claimed."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from adapterhub.hub.server import policy
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.catalogue.columns import of
from adapterhub.hub.server.catalogue.filters import Filters, choose
from adapterhub.hub.server.catalogue.scores import higher_is_better, metric_name
from adapterhub.hub.server.catalogue.search import load
from adapterhub.hub.server.database import Account, Adapter, Dataset, Repository, Score


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
    columns = of(session)
    shown = choose(session, actor, columns, filters).mask()
    held = (
        select(Score.id, Score.repository_id, Score.metric, Score.value, Score.verified)
        .join(Adapter, Adapter.repository_id == Score.repository_id)
        .join(Repository, Repository.id == Score.repository_id)
        .where(Score.dataset_id == dataset.id, Score.content == Adapter.content, Repository.withdrawn.is_(None))
        .order_by(Score.verified.desc(), Score.created.desc(), Score.id.desc())
    )
    found = [one for one in session.execute(held) if shown[columns.place[one.repository_id]]]
    metrics = tuple(name for name, _ in Counter(one.metric for one in found).most_common())
    own = metric_name(dataset.metric)
    chosen = metric_name(metric) if metric else own or next(iter(metrics), "")
    up = dataset.higher_is_better if chosen == own else higher_is_better(chosen)
    newest: dict[int, Any] = {}
    for one in found:
        if one.metric == chosen:
            newest.setdefault(one.repository_id, one)
    best = sorted(newest.values(), key=lambda one: (not one.verified, -one.value if up else one.value, one.id))[:limit]
    rows = _rows(session, actor, [one.id for one in best])
    return Leaderboard(chosen, up, metrics, rows)


def _rows(session: Session, actor: Actor, ids: list[int]) -> tuple[Row, ...]:
    """The places of these scores, in this order."""
    wanted = select(Score, Account.name).outerjoin(Account, Account.id == Score.verifier_id).where(Score.id.in_(ids))
    scores = {score.id: (score, name or "") for score, name in session.execute(wanted)}
    adapters = {
        one.repository_id: one for one in load(session, actor, [one.repository_id for one, _ in scores.values()])
    }
    shown = [scores[id] for id in ids if scores[id][0].repository_id in adapters]
    return tuple(
        Row(rank, adapters[score.repository_id], score, verifier) for rank, (score, verifier) in enumerate(shown, 1)
    )


def boards(session: Session, actor: Actor) -> list[tuple[Dataset, int]]:
    """The data sets that have scores, each with the number of adapters that have one; the most first."""
    number = func.count(Score.repository_id.distinct())
    wanted = (
        select(Score.dataset_id, number)
        .join(Adapter, Adapter.repository_id == Score.repository_id)
        .join(Adapter.repository)
        .where(
            Score.dataset_id.is_not(None),
            Score.content == Adapter.content,
            Repository.withdrawn.is_(None),
            policy.visible(actor),
        )
        .group_by(Score.dataset_id)
        .order_by(number.desc(), Score.dataset_id)
    )
    return [(session.get_one(Dataset, id), count) for id, count in session.execute(wanted)]
