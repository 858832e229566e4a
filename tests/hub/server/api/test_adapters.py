"""Adapters in lists and in full."""

import pytest

from adapterhub.hub.client.catalogue import Listing
from hub.server.api.conftest import lora
from hub.server.protocol.conftest import Asked

API = "/api/v1/adapters"


def test_a_list_has_what_the_client_reads_and_no_more(published: Asked) -> None:
    found = published.client.get(API, params={"sort": "created"}).json()
    assert [one["id"] for one in found["items"]] == ["bob/films", "ann/movies"] and found["total"] == 2
    assert set(found["items"][0]) == set(Listing.__dataclass_fields__)
    mine = published.client.get(API, headers=published.as_("ann")).json()
    assert {one["id"] for one in mine["items"]} == {"ann/movies", "ann/secret", "bob/films"}


def test_pages_follow_each_other(published: Asked) -> None:
    first = published.client.get(API, params={"sort": "created", "limit": 1}).json()
    second = published.client.get(API, params={"sort": "created", "limit": 1, "cursor": first["next"]}).json()
    assert [one["items"][0]["id"] for one in (first, second)] == ["bob/films", "ann/movies"]
    assert second["next"] is None and second["total"] == 2
    wrong = published.client.get(API, params={"sort": "size", "cursor": first["next"]})
    assert wrong.status_code == 400 and "first page" in wrong.json()["detail"]


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ({"base": "roberta-base"}, ["ann/movies"]),
        ({"compatible_with": "roberta-base"}, ["ann/movies"]),
        ({"owner": "bob"}, ["bob/films"]),
        ({"method": ["lora", "ia3"]}, ["bob/films", "ann/movies"]),
        ({"method": "ia3"}, []),
        ({"q": "film"}, ["bob/films"]),
        ({"verified": "true"}, []),
    ],
)
def test_lists_are_narrowed(published: Asked, query: dict[str, str], ids: list[str]) -> None:
    found = published.client.get(API, params=query | {"sort": "created"}).json()
    assert [one["id"] for one in found["items"]] == ids and found["total"] == len(ids)


def test_an_adapter_is_told_at_a_revision(published: Asked) -> None:
    old = published.client.get(f"{API}/ann/movies").json()
    published.publish("movies", lora(rank=3))
    new = published.client.get(f"{API}/ANN/Movies").json()
    assert (old["config"]["r"], new["config"]["r"], new["parameters"]) == (2, 3, 48)
    assert [one["commit"] for one in new["versions"]] == [new["commit"]] != [old["commit"]]
    assert [one["id"] for one in new["commits"]][:2] == [new["commit"], old["commit"]]
    then = published.client.get(f"{API}/ann/movies", params={"revision": old["commit"]}).json()
    assert (then["config"]["r"], then["parameters"], then["files"]) == (2, 32, old["files"])
    assert then["card"].endswith("# sentiment/sst-2\n")
    assert [(one["base"], one["verdict"]) for one in new["fits"]] == [("roberta-base", "same-base")]
    load = next(one["code"] for one in then["code"] if one["key"] == "load")
    assert "model.load_adapter(" in load and f'"ann/movies@{old["commit"]}"' in load and '"roberta-base"' in load
    assert published.client.get(f"{API}/ann/movies", params={"revision": "v9"}).status_code == 404


def test_what_is_there_already_is_not_sent_again(published: Asked) -> None:
    first = published.client.get(f"{API}/ann/movies")
    tag = first.headers["ETag"]
    again = published.client.get(f"{API}/ann/movies", headers={"If-None-Match": f'"other", W/{tag}'})
    assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag)
    published.client.put(f"{API}/ann/movies/like", headers=published.as_("bob"))
    changed = published.client.get(f"{API}/ann/movies", headers={"If-None-Match": tag})
    assert changed.status_code == 200 and changed.json()["likes"] == 1


def test_likes_count_once(published: Asked) -> None:
    path, bob = f"{API}/ann/movies/like", published.as_("bob")
    assert published.client.put(path).status_code == 401
    for _ in range(2):
        assert published.client.put(path, headers=bob).json() == {"likes": 1, "liked": True}
    assert published.client.delete(path, headers=bob).json() == {"likes": 0, "liked": False}
    assert published.client.put(f"{API}/ann/secret/like", headers=bob).status_code == 404


def test_a_withdrawn_adapter_is_given_by_its_commit_alone(published: Asked) -> None:
    path, ann = f"{API}/ann/movies/withdraw", published.as_("ann")
    commit = published.client.get(f"{API}/ann/movies").json()["commit"]
    assert published.client.post(path, json={"reason": "x"}, headers=published.as_("bob")).status_code == 403
    assert published.client.post(path, json={"reason": "it learned nonsense"}, headers=ann).status_code == 200
    assert published.client.get(f"{API}/ann/movies").json()["withdrawn"] == "it learned nonsense"
    gone = published.client.get("/api/v1/resolve", params={"spec": "ann/movies"})
    assert gone.status_code == 404 and "it was withdrawn: it learned nonsense" in gone.json()["detail"]
    assert published.client.get("/api/v1/resolve", params={"spec": "ann/movies@main"}).status_code == 404
    pinned = published.client.get("/api/v1/resolve", params={"spec": f"ann/movies@{commit}"}).json()
    assert pinned["commit"] == commit and any("it learned nonsense" in reason for reason in pinned["reasons"])
    assert published.client.delete(path, headers=ann).json()["withdrawn"] is None
    assert published.client.get("/api/v1/resolve", params={"spec": "ann/movies"}).json()["commit"] == commit


def test_a_withdrawn_adapter_is_in_no_list_but_that_of_its_kind(published: Asked) -> None:
    def listed(path: str = API, user: str = "bob", **query: str) -> list[str]:
        answer = published.client.get(path, params=query, headers=published.as_(user)).json()
        return sorted(one["id"] for one in (answer if path != API else answer["items"]))

    assert listed() == ["ann/movies", "bob/films"]
    why = {"reason": "it learned nonsense"}
    published.client.post(f"{API}/ann/movies/withdraw", json=why, headers=published.as_("ann"))
    assert listed() == listed(task="sentiment") == [*listed(q="movies films"), "bob/films"] == ["bob/films"]
    assert listed("/api/models") == ["bob/films"]
    assert listed(withdrawn="true") == listed(withdrawn="true", owner="ann") == ["ann/movies"]
    assert listed(user="ann") == ["ann/secret", "bob/films"]
    counts = published.client.get("/api/v1/facets").json()
    assert [one["count"] for one in counts["dataset"]] == [1]
    assert published.client.get("/api/v1/suggest", params={"q": "movies"}).json() == []
    assert "movies" not in published.client.get("/feed.xml").text + published.client.get("/").text
    published.client.delete(f"{API}/ann/movies/withdraw", headers=published.as_("ann"))
    assert listed() == ["ann/movies", "bob/films"]
