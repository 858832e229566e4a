"""Compositions of adapters of a hub: published, resolved, and loaded in one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from adapterhub import AutoAdapterModel
from adapterhub.composition import Composition, Fuse, Stack
from adapterhub.errors import CompositionError, UploadRefusedError
from adapterhub.hub.client.pulling import pull
from adapterhub.hub.lock import Lock
from adapterhub.hub.recipe import Merge, Recipe
from hub.server.api.conftest import lora
from hub.server.protocol.conftest import Asked

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def content(asked: Asked, composition: Composition, members: dict[str, str], **more: Any) -> dict[str, Any]:
    """A recipe over the newest commits of repositories."""
    heads = {
        name: asked.client.get(f"/api/v1/adapters/{one}", headers=asked.as_("ann")) for name, one in members.items()
    }
    pins = {name: f"{members[name]}@{answer.json()['commit']}" for name, answer in heads.items()}
    values = {"format": "adapterhub-composition", "version": 1, "base": "roberta-base"}
    return values | {"members": pins, "composition": composition.to_dict()} | more


def put(asked: Asked, name: str, recipe: dict[str, Any], **more: Any) -> None:
    asked.publish(name, {"composition.json": json.dumps(recipe).encode()}, **more)


@pytest.fixture
def both(asked: Asked) -> Asked:
    """A hub with two adapters that go together, a private one, and one for another model."""
    asked.publish("a", lora())
    asked.publish("b", lora(seed=1, rank=3), user="bob")
    asked.publish("secret", lora(seed=2), private=True)
    asked.publish("other", lora(base="bert-base-uncased"))
    return asked


def test_a_composition_lists_its_members_and_is_used_by_them(both: Asked) -> None:
    put(both, "both", content(both, Stack("one", "two"), {"one": "ann/a", "two": "bob/b"}))
    listed = both.client.get("/api/v1/adapters/ann/both").json()
    assert (listed["kind"], listed["method"], listed["base"]) == ("composition", "composition", "roberta-base")
    assert listed["parameters"] == 32 + 48 and listed["info"]["methods"] == ["lora"]
    found = both.client.get("/api/v1/resolve", params={"spec": "ann/both", "base": "roberta-base"}).json()
    assert found["verdict"] == "same-base" and [one["name"] for one in found["members"]] == ["one", "two"]
    for member, repository in zip(found["members"], ("ann/a", "bob/b"), strict=True):
        there = both.client.get(f"/api/v1/adapters/{repository}").json()
        assert (member["repository"], member["commit"], member["files"]) == (
            repository,
            there["commit"],
            there["files"],
        )
        assert there["used_in"] == ["ann/both"]
    none = both.client.get("/api/v1/resolve", params={"spec": "ann/both", "base": "bert-base-uncased"})
    assert none.status_code == 404
    both.publish("a", lora(rank=1))  # a newer version of a member changes nothing
    assert both.client.get("/api/v1/resolve", params={"spec": "ann/both"}).json()["members"] == found["members"]


def test_members_have_to_be_there_and_to_fit(both: Asked) -> None:
    good = content(both, Stack("one", "two"), {"one": "ann/a", "two": "bob/b"})
    wrong: list[tuple[dict[str, Any], str]] = [
        (content(both, Stack("one"), {"one": "ann/secret"}), "is private"),
        (content(both, Stack("one", "two"), {"one": "ann/a", "two": "ann/other"}), "several base models"),
        (good | {"base": "bert-base-uncased"}, "its members are for roberta-base"),
        (good | {"members": good["members"] | {"two": f"bob/b@{COMMIT}"}}, "has no branch, tag or commit"),
        (good | {"members": good["members"] | {"two": f"bob/nothing@{COMMIT}"}}, "there is no repository bob/nothing"),
        (content(both, Fuse("one", "two"), {"one": "ann/a", "two": "bob/b"}), "one,two"),
        (content(both, Fuse("one", "two", name="two"), {"one": "ann/a", "two": "bob/b"}), "has to be a 'fusion'"),
    ]
    for recipe, why in wrong:
        with pytest.raises(UploadRefusedError, match=why):
            put(both, "both", recipe)
    put(both, "mine", content(both, Stack("one"), {"one": "ann/secret"}), private=True)


def test_a_member_that_is_gone_is_told(both: Asked) -> None:
    put(both, "both", content(both, Stack("one", "two"), {"one": "ann/a", "two": "bob/b"}))
    both.client.request(
        "DELETE", "/api/repos/delete", json={"name": "b", "organization": "bob"}, headers=both.as_("bob")
    )
    answer = both.client.get("/api/v1/resolve", params={"spec": "ann/both"})
    assert answer.status_code == 404 and "bob/b" in answer.json()["detail"] and "two" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"members": {}}, "1 to 64 members"),
        ({"members": {"one": "ann/a@main", "two": f"bob/b@{COMMIT}"}}, "pinned to no commit"),
        ({"members": {"../one": f"ann/a@{COMMIT}", "two": f"bob/b@{COMMIT}"}}, "name of a member"),
        ({"members": {"one": f"ann/a@{COMMIT}"}}, "which no member is called"),
        ({"heads": ["three"]}, "which no member is called"),
        ({"merges": {"one": {"weights": {"two": 1}}}}, "merged of others"),
        ({"merges": {"three": {"weights": {"two": 1}, "strategy": "magic"}}}, "not by 'magic'"),
        ({"merges": {"three": {"weights": {"two": "inf"}}}}, "finite weight"),
        ({"merges": {"three": {"weights": {"two": 1}}}}, "in no place of the composition"),
        ({"composition": {"type": "Magic", "children": []}}, "not a composition"),
        (
            {
                "composition": {
                    "type": "Average",
                    "children": [{"type": "single", "children": ["one"]}],
                    "kwargs": {"weights": "x"},
                }
            },
            "no composition",
        ),
        ({"format": "zip"}, "has the format"),
        ({"code": "import os"}, "has no"),
        ({"base": ""}, "base"),
    ],
)
def test_recipes_that_are_none(change: dict[str, Any], why: str) -> None:
    good = {
        "format": "adapterhub-composition",
        "version": 1,
        "base": "roberta-base",
        "members": {"one": f"ann/a@{COMMIT}", "two": f"bob/b@{COMMIT}"},
        "composition": Stack("one", "two").to_dict(),
    }
    assert Recipe.from_dict(good).to_dict() == good
    with pytest.raises(CompositionError, match=why):
        Recipe.from_dict(good | change)


def saved(save: Callable[[Path], None], folder: Path) -> dict[str, bytes]:
    save(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_composition_is_loaded_in_one_line(asked: Asked, by_client: str, tmp_path: Path) -> None:
    model = AutoAdapterModel.from_config(tiny.config("roberta"))
    model.config._name_or_path = "hub/tiny"
    torch.manual_seed(0)
    for name, config in (("x", "seq_bn"), ("y", "seq_bn"), ("z", "lora"), ("w", "lora")):
        model.add_adapter(name, config)
        with torch.no_grad():
            for parameter in model.adapters[name].parameters():
                parameter.normal_(0, 0.1)
    model.add_adapter_fusion(Fuse("x", "y"))
    for name in ("x", "y", "z", "w"):
        asked.publish(name, saved(lambda folder, name=name: model.save_adapter(folder, name), tmp_path / name))
    asked.publish("f", saved(lambda folder: model.save_adapter_fusion(folder, "x,y"), tmp_path / "f"))
    model.average_adapter("zw", {"z": 0.25, "w": 0.75})

    members = {"x": "ann/x", "y": "ann/y", "x,y": "ann/f", "z": "ann/z", "w": "ann/w"}
    recipe = content(asked, Stack("zw", Fuse("x", "y")), members, base="hub/tiny")
    recipe["merges"] = {"zw": Merge({"z": 0.25, "w": 0.75}).to_dict()}
    put(asked, "whole", recipe)

    tokens = torch.arange(10).reshape(2, 5)
    model.set_active_adapters(Stack("zw", Fuse("x", "y")))
    model.eval()
    expected = model(tokens).last_hidden_state
    for name in ("zw", "z", "w"):
        model.delete_adapter(name)
    fresh = AutoAdapterModel.from_config(model.config)
    fresh.load_state_dict(model.state_dict(), strict=False)
    fresh.eval()
    composition, _ = fresh.load_adapter_setup("ann/whole", set_active=True, hub=by_client)
    assert composition == Stack("zw", Fuse("x", "y")) and set(fresh.adapters) == {"zw", "x", "y"}
    assert torch.equal(fresh(tokens).last_hidden_state, expected)


def test_a_lock_pins_the_bytes_of_all_members(both: Asked, by_client: str, tmp_path: Path) -> None:
    put(both, "both", content(both, Stack("one", "two"), {"one": "ann/a", "two": "bob/b"}))
    lock = tmp_path / "adapters.lock"
    folder = pull("ann/both", hub=by_client, lock=lock).folder
    assert {path.name for path in folder.iterdir()} == {"adapter_setup.json", "one", "two"}
    weights = (folder / "one" / "adapter_model.safetensors").read_bytes()
    assert weights == lora()["adapter_model.safetensors"]
    locked = Lock.read(lock).adapters
    assert {str(one.repository) for one in locked.values()} == {"ann/both", "ann/a", "bob/b"}
    both.publish("both", {"composition.json": json.dumps(content(both, Stack("one"), {"one": "bob/b"})).encode()})
    assert pull("ann/both", hub=by_client, lock=lock).folder == folder
