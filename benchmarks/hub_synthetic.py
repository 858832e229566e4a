"""A large catalogue made up from the real entries of the archived AdapterHub: their names, tasks, bases and words."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import accumulate
from pathlib import Path
from typing import Any, Generic, TypeVar

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from adapterhub.hub.bases import canonical
from adapterhub.hub.server.catalogue import archive, archive_reading, indexing, words
from adapterhub.hub.server.catalogue import bases as catalogue_bases
from adapterhub.hub.server.catalogue.describing import Description
from adapterhub.hub.server.database import (
    Account,
    Adapter,
    AdapterTag,
    Base,
    BaseModel,
    Commit,
    Dataset,
    Ref,
    Repository,
    Score,
    Task,
    Tree,
    now,
)
from adapterhub.hub.server.hub import Hub

METHODS = {
    "lora": 55, "bottleneck": 18, "dora": 6, "prefix_tuning": 4, "prompt_tuning": 4, "ia3": 4, "adalora": 3, "vera": 2,
    "reft": 1.5, "compacter": 1, "lokr": 0.8, "union": 0.7,
}  # fmt: skip
FORMATS = {"lora": "peft", "dora": "peft", "adalora": "peft", "vera": "peft", "lokr": "peft", "prompt_tuning": "peft"}
LICENSES = {
    "apache-2.0": 40,
    "": 25,
    "mit": 15,
    "cc-by-4.0": 6,
    "llama3.1": 5,
    "cc-by-nc-4.0": 4,
    "gpl-3.0": 3,
    "bsd": 2,
}
HEADS = {"": 50, "classification": 28, "tagging": 9, "causal_lm": 6, "question_answering": 5, "multi_label": 2}
KINDS = {"adapter": 96, "fusion": 2, "composition": 1, "head": 1}
OWNERS, BASES, PRIVATE = 4000, 400, 0.05
_BATCH = 2000
_FILLER = [
    "trained",
    "evaluated",
    "with",
    "learning",
    "rate",
    "epochs",
    "batch",
    "size",
    "the",
    "a",
    "of",
    "on",
    "for",
    "and",
    "results",
    "better",
    "than",
    "full",
    "finetuned",
    "low",
    "rank",
    "experiment",
    "version",
    "best",
    "checkpoint",
    "seed",
    "data",
    "filtered",
    "cleaned",
    "domain",
    "legal",
    "medical",
    "news",
    "tweets",
    "reviews",
    "questions",
    "answers",
    "instruction",
    "chat",
    "summaries",
    "code",
    "English",
    "multilingual",
    "transfer",
    "zero-shot",
    "baseline",
    "ablation",
]

T = TypeVar("T")


class Skewed(Generic[T]):
    """Draws of values by weight; by default the n-th is drawn in proportion to 1/n."""

    def __init__(self, draw: random.Random, values: Sequence[T], weights: Sequence[float] | None = None) -> None:
        self.draw, self.values = draw, values
        self.sums = list(accumulate(weights or [1 / (place + 1) for place in range(len(values))]))

    def __call__(self) -> T:
        return self.draw.choices(self.values, cum_weights=self.sums)[0]


@dataclass(frozen=True)
class Facts:
    """What the rows are drawn from."""

    owners: list[tuple[int, str]]
    bases: list[tuple[int, str]]
    places: list[tuple[Task, Dataset]]
    texts: list[str]


def fill(hub: Hub, path: Path, number: int, seed: int = 0, told: Callable[[int], None] = lambda _: None) -> None:
    """Import the archive at ``path`` and add ``number`` adapters like its own; ``told`` hears how many there are."""
    draw = random.Random(seed)
    archive.import_archive(hub, path)
    read = archive_reading.read(path)
    with hub.database.write() as session:
        facts = _facts(session, draw, [one.get("description") or "" for one in read.entries.values()])
    rows = _rows(draw, facts)
    for start in range(0, number, _BATCH):
        with hub.database.write() as session:
            _add(session, draw, facts, [next(rows) for _ in range(min(_BATCH, number - start))])
        told(start + _BATCH)


def _facts(session: Session, draw: random.Random, texts: list[str]) -> Facts:
    names = [f"{draw.choice(('lab', 'nlp', 'ai', 'team', 'user'))}-{number}" for number in range(OWNERS)]
    session.execute(insert(Account), [{"name": name, "key": name, "kind": "user"} for name in names])
    real = [(one.name, one.config) for one in session.scalars(select(BaseModel).order_by(BaseModel.id))]
    made = []
    for number in range(BASES):
        name, config = real[number % len(real)]
        made.append(f"{draw.choice(names)}/{name.split('/')[-1]}-{draw.choice(_FILLER)}-{number}")
        base = BaseModel(
            name=made[-1], key=canonical(made[-1]), identity=f"synthetic{number}", relation="finetune", public=True
        )
        catalogue_bases.set_config(base, config)
        session.add(base)
    session.add(Tree(oid="0" * 40, files={}))
    session.flush()
    bases = [(one.id, one.name) for one in session.scalars(select(BaseModel).order_by(BaseModel.id))]
    owners = [(id, name) for id, name in session.execute(select(Account.id, Account.name).order_by(Account.id))]
    places = [(one.task, one) for one in session.scalars(select(Dataset).order_by(Dataset.id))]
    draw.shuffle(places)
    return Facts(owners, bases, places, [text for text in texts if text])


def _rows(draw: random.Random, facts: Facts) -> Iterator[dict[str, Any]]:
    """Without end."""
    owner, base, place = Skewed(draw, facts.owners), Skewed(draw, facts.bases), Skewed(draw, facts.places)
    method, license, head, kind = (
        Skewed(draw, list(one), list(one.values())) for one in (METHODS, LICENSES, HEADS, KINDS)
    )
    seen = set[str]()
    while True:
        (owner_id, who), (base_id, model), (task, dataset), how = owner(), base(), place(), method()
        name = f"{model.split('/')[-1]}-{dataset.slug}-{how}"[:84]
        key = f"{who}/{name}".lower()
        if key in seen:
            name = f"{name}-v{len(seen)}"
            key = f"{who}/{name}".lower()
        seen.add(key)
        is_language = task.kind == "language"
        yield {
            "owner_id": owner_id,
            "name": name,
            "key": key,
            "full_name": f"{who}/{name}",
            "private": draw.random() < PRIVATE,
            "kind": kind(),
            "format": FORMATS.get(how, draw.choice(("adapterhub", "adapters"))),
            "method": how,
            "base_id": base_id,
            "model": model,
            "task": task,
            "dataset": dataset,
            "language": task.slug if is_language else dataset.language,
            "license": license(),
            "head": "" if is_language else head(),
            "size": int(draw.lognormvariate(15, 1.2)),
            "downloads": int(draw.paretovariate(0.9)) - 1,
            "score": round(draw.betavariate(8, 3), 4) if draw.random() < 0.3 and not is_language else None,
            "verified": draw.random() < 0.2,
            "text": f"{draw.choice(facts.texts)} {' '.join(draw.choices(_FILLER, k=40))}",
        }


def _add(session: Session, draw: random.Random, facts: Facts, rows: list[dict[str, Any]]) -> None:
    present = now()
    _insert(
        session,
        Repository,
        rows,
        lambda row: {
            **{name: row[name] for name in ("owner_id", "name", "key", "private", "size", "downloads")},
            "likes": row["downloads"] // 30,
            "updated": present - timedelta(seconds=draw.randrange(100_000_000)),
        },
    )
    keys = [row["key"] for row in rows]
    ids = dict(session.execute(select(Repository.key, Repository.id).where(Repository.key.in_(keys))).tuples().all())
    for row in rows:
        row["id"], row["oid"] = ids[row["key"]], f"{ids[row['key']]:040x}"
        row["tags"] = [f"adapterhub:{row['task'].slug}/{row['dataset'].slug}", row["format"], draw.choice(_FILLER)]
    identity = lambda row: {"repository_id": row["id"], "oid": row["oid"]}  # noqa: E731
    _insert(
        session,
        Commit,
        rows,
        lambda row: identity(row) | {"tree_oid": "0" * 40, "author": "", "title": "", "message": ""},
    )
    _insert(session, Ref, rows, lambda row: identity(row) | {"kind": "branch", "name": "main"})
    _insert(session, Adapter, rows, lambda row: identity(row) | _adapter(row))
    tags = [{"repository_id": row["id"], "tag": tag} for row in rows for tag in dict.fromkeys(row["tags"])]
    session.execute(insert(AdapterTag), tags)
    scored = [row for row in rows if row["score"] is not None]
    _insert(session, Score, scored, lambda row: identity(row) | _score(row))
    words.put_all(session, ((row["id"], _texts(row)) for row in rows))


def _insert(session: Session, table: type[Base], rows: list[dict[str, Any]], values: Callable[[Any], Any]) -> None:
    session.execute(insert(table), [values(row) for row in rows])


def _adapter(row: dict[str, Any]) -> dict[str, Any]:
    same = ("kind", "format", "method", "base_id", "language", "license", "head", "size", "score")
    return {name: row[name] for name in same} | {
        "content": row["oid"],
        "config_hash": "",
        "task_id": row["task"].id,
        "dataset_id": row["dataset"].id,
        "parameters": row["size"] // 4,
        "title": row["name"].replace("-", " "),
        "summary": row["text"][:120],
        "merit": row["score"],
        "verified": row["verified"] and row["score"] is not None,
    }


def _score(row: dict[str, Any]) -> dict[str, Any]:
    from adapterhub.hub.server.catalogue.scores import metric_name

    return {
        "content": row["oid"],
        "dataset_id": row["dataset"].id,
        "data": row["dataset"].slug,
        "metric": metric_name(row["dataset"].metric or "accuracy"),
        "value": row["score"],
        "verified": row["verified"],
    }


def _texts(row: dict[str, Any]) -> words.Texts:
    said = Description(
        title=row["name"].replace("-", " "), summary=row["text"][:120], body=row["text"], tags=tuple(row["tags"])
    )
    return indexing.texts(
        row["full_name"], said, row["method"], row["language"], row["task"], row["dataset"], row["model"]
    )
