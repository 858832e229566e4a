"""Lists by every filter, alone and in pairs: a filter over all in memory is the oracle."""

import itertools
import json
import random
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from starlette.testclient import TestClient

from adapterhub.hub.server import repositories
from adapterhub.hub.server.app import create_app
from adapterhub.hub.server.database import Adapter, AdapterTag, BaseModel, Dataset, Repository, Task
from adapterhub.hub.server.settings import Settings
from hub.server.adapter_files import lora
from hub.server.conftest import database_of
from hub.server.protocol.conftest import Asked, people

Model = dict[str, Any]
BASES, OWN_TAGS = ("roberta-base", "org/Other-Base"), ("sentiment", "en", "lora")
# A query, and which models it finds.
FILTERS: dict[str, Callable[[Model], bool]] = {
    "filter=sentiment": lambda one: "sentiment" in one["tags"],
    "filter=SENTIMENT": lambda one: "sentiment" in one["tags"],
    "filter=en": lambda one: "en" in one["tags"],
    "filter=peft": lambda one: one.get("library_name") == "peft",
    "filter=adapter-transformers": lambda one: one.get("library_name") == "adapter-transformers",
    "filter=base_model:adapter:roberta-base": lambda one: "base_model:adapter:roberta-base" in one["tags"],
    "filter=base_model:org/Other-Base": lambda one: "base_model:org/Other-Base" in one["tags"],
    "filter=license:mit": lambda one: "license:mit" in one["tags"],
    "filter=dataset:a-set": lambda one: "dataset:a-set" in one["tags"],
    "filter=lora&filter=en": lambda one: {"lora", "en"} <= set(one["tags"]),
    "filter=nothing": lambda one: False,
    "pipeline_tag=sentiment": lambda one: "sentiment" in one["tags"],
    "author=ANN": lambda one: one["author"] == "ann",
    "author=nobody": lambda one: False,
    "search=ODD": lambda one: "odd" in one["id"],
    "search=ann%2Feven 1": lambda one: "ann/even" in one["id"] and "1" in one["id"],
    "search=%25": lambda one: False,
    "search=n_": lambda one: "n_" in one["id"],
    "num_parameters=min:0.5K,max:2K": lambda one: 500 <= one["parameters"] <= 2000,
    "gated=false": lambda one: True,
    "gated=True": lambda one: False,
    "inference=warm": lambda one: False,
    "apps=vllm": lambda one: False,
}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def filled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Asked, list[Model]]]:
    """Sixty repositories, some of them private or without an adapter, and what is true of those that all may see."""
    for url in database_of(request, request.param):
        settings = Settings(directory=tmp_path_factory.mktemp("listed") / "hub", database=url)
        tokens, app = people(settings), create_app(settings)
        asked = Asked(app.state.hub, TestClient(app, base_url="http://hub.test"), tokens)
        yield asked, fill(asked, random.Random(0))
        asked.hub.close()


def fill(asked: Asked, numbers: random.Random) -> list[Model]:
    people = {name: asked.actor(name) for name in ("ann", "bob")}
    with asked.hub.database.write() as session:
        task = Task(kind="task", slug="a-task-of-tests", title="")
        sets = [Dataset(task=task, slug="a-set", title=""), Dataset(task=task, slug="x", title="", source="b-set")]
        bases = [BaseModel(name=name, key=name.lower(), identity=name) for name in BASES]
        session.add_all([task, *sets, *bases])
        session.flush()
        made = []
        for number in range(60):
            owner = numbers.choice(("ann", "bob"))
            name = f"{'odd' if number % 2 else 'even'}-{number}"
            row = repositories.create(session, people[owner], owner, name, private=number % 10 == 3)
            row.downloads, row.likes = numbers.randrange(5), numbers.randrange(5)
            session.flush()
            said: Model = {"id": f"{owner}/{name}", "author": owner, "tags": set(), "parameters": -1}
            if number % 7:
                said |= adapter(session, row, numbers, bases, sets)
            if not row.private:
                made.append(said | {"number": row.id, "downloads": row.downloads, "likes": row.likes})
    return made


def adapter(session: Any, row: Repository, numbers: random.Random, bases: Any, sets: Any) -> Model:
    form, base, data = (
        numbers.choice(("peft", "adapters")),
        numbers.choice((None, *bases)),
        numbers.choice((None, *sets)),
    )
    own, license_ = {tag for tag in OWN_TAGS if numbers.random() < 0.5}, numbers.choice(("mit", ""))
    parameters = numbers.randrange(3000)
    values = {
        "base_id": base and base.id,
        "dataset_id": data and data.id,
        "license": license_,
        "parameters": parameters,
    }
    session.add(Adapter(repository_id=row.id, oid="0" * 40, format=form, method="lora", **values))
    session.add_all(AdapterTag(repository_id=row.id, tag=tag) for tag in own)
    library = {"peft": "peft", "adapters": "adapter-transformers"}[form]
    tags = own | {library} | ({f"license:{license_}"} if license_ else set())
    tags |= set() if base is None else {f"base_model:{base.name}", f"base_model:adapter:{base.name}"}
    tags |= set() if data is None else {f"dataset:{data.source or data.slug}"}
    return {"library_name": library, "tags": tags, "parameters": parameters}


def listed(asked: Asked, query: str, **options: Any) -> list[Model]:
    answer = asked.client.get(f"/api/models?{query}", **options)
    assert answer.status_code == 200, answer.text
    return list(answer.json())


def test_all_is_told_of_each(filled: tuple[Asked, list[Model]]) -> None:
    asked, models = filled
    found = {one["id"]: one for one in listed(asked, "")}
    assert set(found) == {one["id"] for one in models}
    for one in models:
        assert set(found[one["id"]]["tags"]) == one["tags"] and found[one["id"]]["downloads"] == one["downloads"]
        assert found[one["id"]].get("library_name") == one.get("library_name")


@pytest.mark.parametrize("first", FILTERS)
def test_filters_alone_and_in_pairs(filled: tuple[Asked, list[Model]], first: str) -> None:
    asked, models = filled
    for second in ("", *itertools.dropwhile(lambda one: one != first, FILTERS)):
        if second and {name for name, _ in parse_qsl(first)} & {name for name, _ in parse_qsl(second)} - {"filter"}:
            continue
        expected = {one["id"] for one in models if FILTERS[first](one) and (not second or FILTERS[second](one))}
        assert {one["id"] for one in listed(asked, f"{first}&{second}")} == expected, (first, second)


@pytest.mark.parametrize("sort", ["", "createdAt", "lastModified", "downloads", "likes", "trendingScore"])
@pytest.mark.parametrize("direction", [-1, 1])
def test_orders_and_pages(filled: tuple[Asked, list[Model]], sort: str, direction: int) -> None:
    asked, models = filled
    key = {"downloads": "downloads", "likes": "likes", "trendingScore": "likes"}.get(sort, "number")
    expected = sorted(models, key=lambda one: (one[key], one["number"]), reverse=direction == -1)
    url: str | None = f"/api/models?{urlencode({'sort': sort, 'direction': direction, 'limit': 7, 'full': 'True'})}"
    found, pages = [], 0
    while url:
        answer = asked.client.get(url)
        found += [one["id"] for one in answer.json()]
        assert all("siblings" in one for one in answer.json())
        url, pages = answer.links["next"]["url"] if "next" in answer.links else None, pages + 1
    assert found == [one["id"] for one in expected] and pages == -(-len(models) // 7)


def test_pages_stay_in_step_when_others_publish(asked: Asked) -> None:
    for number in range(6):
        asked.publish(f"a{number}", lora())
    first = asked.client.get("/api/models?limit=3")
    asked.publish("b", lora())
    second = asked.client.get(first.links["next"]["url"])
    assert [one["id"] for one in first.json() + second.json()] == [f"ann/a{number}" for number in range(5, -1, -1)]
    assert "next" not in second.links


def test_private_ones_are_listed_for_their_owner(filled: tuple[Asked, list[Model]]) -> None:
    asked, _ = filled
    for user in ("ann", "bob"):
        mine = {one["author"] for one in listed(asked, "", headers=asked.as_(user)) if one["private"]}
        assert mine == {user}
    assert not [one for one in listed(asked, "") if one["private"]]


def test_more_is_told_when_asked(asked: Asked) -> None:
    asked.publish("notes", lora())
    (full,) = listed(asked, "full=true&cardData=True")
    assert full["cardData"]["license"] == "mit" and len(full["siblings"]) == 3
    (some,) = listed(asked, "expand=downloads&expand=cardData&expand=siblings")
    assert set(some) == {"_id", "id", "modelId", "downloads", "cardData", "siblings"}
    card = b"---\npipeline_tag: text-classification\n---\n"
    asked.publish("other", lora() | {"README.md": card})
    assert [one["id"] for one in listed(asked, "pipeline_tag=text-classification")] == ["ann/other"]
    plain, _ = listed(asked, "sort=createdAt&direction=1")
    assert "siblings" not in plain and "cardData" not in plain


@pytest.mark.parametrize(
    "query",
    [
        "sort=size",
        "limit=0",
        "limit=x",
        "cursor=x",
        "cursor=W10=",
        "sort=createdAt&cursor=" + "WyJ4IiwgMV0=",
        "cursor=" + urlencode({"": "WzEwMDAwMDAwMDAwMDAwMDAwMDAwMDAsIDFd"})[1:],
        "num_parameters=many",
        "search=%00",
        "filter=%00",
        "author=%00",
        "full=maybe",
    ],
)
def test_odd_queries_are_refused(asked: Asked, query: str) -> None:
    answer = asked.client.get(f"/api/models?{query}")
    assert answer.status_code in (400, 422) and json.loads(answer.text)["error"]
