"""How well an adapter does: what its card claims, and what somebody else has measured."""

import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from adapterhub.errors import HubError, HubNotFoundError
from adapterhub.hub.server import audit, policy
from adapterhub.hub.server.actor import Actor
from adapterhub.hub.server.database import Adapter, Commit, Dataset, Repository, Score

_NAMES = {
    "acc": "accuracy",
    "f1score": "f1",
    "em": "exactmatch",
    "mcc": "matthews",
    "matthewscorrelation": "matthews",
    "matthewscorrcoef": "matthews",
    "pearsonr": "pearson",
    "pearsoncorrelation": "pearson",
    "spearmanr": "spearman",
    "spearmancorrelation": "spearman",
    "sacrebleu": "bleu",
}
# What is written as 0.91 by some and as 91 by others.
_FRACTIONS = re.compile(
    r"(?:.*accuracy|.*f1|precision|recall|exactmatch|matthews|pearson|spearman|auc|rouge.*|las|uas)"
)
_LOWER = frozenset({"perplexity", "loss", "evalloss", "wer", "cer", "ter", "mae", "mse", "rmse"})


_CONTENT = (".safetensors", ".json")


@dataclass(frozen=True)
class Result:
    """One number on a data set.

    Attributes:
        data: the data set as it is called where the number comes from.
        low, high: of the 95 % confidence interval.
        rows: how many examples there were.
    """

    metric: str
    value: float
    data: str = ""
    split: str = ""
    low: float | None = None
    high: float | None = None
    rows: int | None = None


def metric_name(metric: str) -> str:
    """One name for all ways to write that of a metric: ``F1``, ``ROUGE-2`` and ``eval_accuracy`` are ``f1``, ..."""
    plain = re.sub(r"[^a-z0-9]", "", metric.lower())
    plain = plain.removeprefix("eval") or plain
    return _NAMES.get(plain, plain)[:64]


def higher_is_better(metric: str) -> bool:
    """Whether more is better, by the name of a metric."""
    return metric_name(metric) not in _LOWER


def claim(
    session: Session, adapter: Adapter, results: Iterable[tuple[Dataset | None, Result]], evidence: Any = None
) -> None:
    """Put what a card claims in the place of what it claimed before."""
    claims = Score.verifier_id.is_(None) & Score.verified.is_(False)
    session.execute(delete(Score).where(Score.repository_id == adapter.repository_id, claims))
    for dataset, result in results:
        if math.isfinite(result.value):
            session.add(_score(adapter.repository_id, adapter.oid, adapter.content, dataset, result, evidence))
    session.flush()
    settle(session, adapter)


def measured(
    session: Session,
    actor: Actor,
    repository: Repository,
    commit: Commit,
    dataset: Dataset,
    results: Iterable[Result],
    evidence: Mapping[str, Any],
) -> list[Score]:
    """Record what somebody has measured, and on what; ``verified`` if who did so does not belong to the owner.

    Args:
        commit: what was measured: the numbers hold as long as weights and configuration stay those of it.
        evidence: revision and SHA-256 of the data, versions of the software, seed, fingerprint of the base.

    Raises:
        HubAccessError: without a token to write.
        HubNotFoundError: if there is no adapter in the main branch, or not that of the commit.
        HubError: for a number that is none.
    """
    policy.check_scope(actor, "write")
    policy.check_read(session, actor, repository)
    adapter = session.get(Adapter, repository.id)
    if adapter is None or content_of(commit) != adapter.content or adapter.origin is not None:
        raise HubNotFoundError(f"{repository.full_name} has by now another adapter than in {commit.oid}: measure that")
    independent = actor.is_admin or not policy.may_write(session, actor, repository.owner)
    made = []
    for result in results:
        if not math.isfinite(result.value):
            raise HubError(f"{result.metric} is {result.value}: a score is a finite number")
        score = _score(repository.id, commit.oid, adapter.content, dataset, result, dict(evidence))
        score.verifier_id, score.verified = actor.id, independent
        session.add(score)
        made.append(score)
    session.flush()
    settle(session, adapter)
    audit.record(session, actor, "score.measured", repository.key, oid=commit.oid, dataset=dataset.slug)
    return made


def settle(session: Session, adapter: Adapter) -> None:
    """Give the row of an adapter the score that counts: the newest verified one, else measured or claimed."""
    adapter.score, adapter.merit, adapter.verified = None, None, False
    dataset = session.get(Dataset, adapter.dataset_id) if adapter.dataset_id is not None else None
    if dataset is None:
        return
    wanted = (
        select(Score)
        .where(Score.repository_id == adapter.repository_id, Score.dataset_id == dataset.id)
        .where(Score.content == adapter.content)
        .order_by(Score.verified.desc(), Score.created.desc(), Score.id)
    )
    if dataset.metric:
        wanted = wanted.where(Score.metric == metric_name(dataset.metric))
    if (best := session.scalar(wanted.limit(1))) is not None:
        up = dataset.higher_is_better if dataset.metric else higher_is_better(best.metric)
        adapter.score, adapter.verified = best.value, best.verified
        adapter.merit = best.value if up else -best.value


def of(session: Session, adapter: Adapter) -> list[Score]:
    """All scores that hold for an adapter as it is now: the verified ones first, then by data set."""
    wanted = (
        select(Score)
        .where(Score.repository_id == adapter.repository_id, Score.content == adapter.content)
        .order_by(Score.verified.desc(), Score.data, Score.metric, Score.created.desc())
    )
    return list(session.scalars(wanted))


def content_of(commit: Commit) -> str:
    """A digest of weights and configuration: a card that is edited changes nothing in it."""
    lines = [f"{path} {values[1]}" for path, values in commit.tree.files.items() if path.endswith(_CONTENT)]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def _score(repository_id: int, oid: str, content: str, dataset: Dataset | None, result: Result, evidence: Any) -> Score:
    metric = metric_name(result.metric)
    percent = 1 < abs(result.value) <= 100 and _FRACTIONS.fullmatch(metric)  # where a metric has none above 1
    value, low, high = (one and one / 100 if percent else one for one in (result.value, result.low, result.high))
    return Score(
        repository_id=repository_id,
        oid=oid,
        content=content,
        dataset_id=None if dataset is None else dataset.id,
        data=result.data or ("" if dataset is None else f"{dataset.task.slug}/{dataset.slug}"),
        split=result.split[:32],
        metric=metric,
        value=value,
        low=low,
        high=high,
        rows=result.rows,
        evidence=evidence,
    )
