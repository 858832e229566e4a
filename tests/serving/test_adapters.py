"""Which adapters are in the model, and how they come there and go."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from adapterhub.errors import AdapterHubError, CheckpointError
from adapterhub.serving.adapters import Adapters
from adapterhub.serving.errors import UnknownAdapterError
from adapterhub.serving.model import Held
from adapterhub.serving.sources import FolderSource, Found, HubSource, Sources


@dataclass
class Places:
    """A source and a model, of which one sees what is asked of them."""

    versions: dict[str, str] = field(default_factory=lambda: dict.fromkeys("abcdef", "1"))
    found: list[str] = field(default_factory=list)
    held: set[str] = field(default_factory=set)
    slow: dict[str, threading.Event] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)

    def find(self, name: str) -> Found:
        self.found.append(name)
        if name in self.slow:
            self.slow[name].wait(10)
        if name not in self.versions:
            raise UnknownAdapterError(f"no {name}")
        return Found(Path(name), self.versions[name], "here")

    def names(self) -> list[str]:
        return list(self.versions)

    def load(self, folder: Path) -> Held:
        if folder.name in self.broken:
            raise CheckpointError(f"{folder} is cut off")
        slot = f"{folder}-{self.versions[folder.name]}"
        self.held.add(slot)
        return Held(slot, None, 10)

    def unload(self, slot: str) -> None:
        self.held.remove(slot)


def run(places: Places, work: Callable[[Adapters], Coroutine[Any, Any, None]], size: int = 1000) -> None:
    async def all_of_it() -> None:
        adapters = Adapters(places, places, size)  # type: ignore[arg-type]
        await work(adapters)
        await adapters.stop()

    asyncio.run(all_of_it())


async def held(adapters: Adapters, places: Places) -> set[str]:
    """What is in the model, once what was to go is gone."""
    await asyncio.get_running_loop().run_in_executor(adapters._loads, lambda: None)
    return set(places.held)


async def use(adapters: Adapters, *names: str) -> list[str]:
    async with adapters.lease(names) as leased:
        return [one.held.slot for one in leased.values()]


def test_however_many_ask_it_is_fetched_once_and_others_do_not_wait_for_it() -> None:
    places = Places(slow={"a": threading.Event()})

    async def work(adapters: Adapters) -> None:
        waiting = [asyncio.create_task(use(adapters, "a")) for _ in range(50)]
        gone = asyncio.create_task(use(adapters, "a"))
        assert await asyncio.wait_for(use(adapters, "b", "c"), 5) == ["b-1", "c-1"]
        gone.cancel()
        places.slow["a"].set()
        assert await asyncio.gather(*waiting) == [["a-1"]] * 50

    run(places, work)
    assert places.found.count("a") == 1


def test_what_was_not_used_for_the_longest_makes_room_but_nothing_pinned_or_in_use() -> None:
    places = Places()

    async def work(adapters: Adapters) -> None:
        await adapters.pin("a", True)
        async with adapters.lease(["b"]):
            for name in "cdef":
                await use(adapters, name)
            assert await held(adapters, places) == {"a-1", "b-1", "f-1"}
        await adapters.pin("a", False)
        await use(adapters, "c")
        assert await held(adapters, places) == {"b-1", "c-1", "f-1"}
        await adapters.unload("b")
        assert await held(adapters, places) == {"c-1", "f-1"}
        with pytest.raises(UnknownAdapterError):
            await adapters.unload("b")

    run(places, work, size=30)


def test_a_new_version_takes_over_and_the_old_one_answers_what_it_began() -> None:
    places = Places()

    async def work(adapters: Adapters) -> None:
        async with adapters.lease(["a"]) as before:
            places.versions["a"] = "2"
            await adapters.refresh()
            assert before["a"].held.slot == "a-1"
            assert await held(adapters, places) == {"a-1", "a-2"}
            assert await use(adapters, "a") == ["a-2"]
        assert await held(adapters, places) == {"a-2"}
        places.versions["a"], places.broken = "3", {"a"}
        await adapters.refresh()
        assert await use(adapters, "a") == ["a-2"]
        with pytest.raises(CheckpointError):
            await adapters.load("a")

    run(places, work)


def test_what_cannot_be_loaded_is_told_at_once_for_a_while_and_tried_again_when_asked() -> None:
    places = Places(broken={"a"})

    async def work(adapters: Adapters) -> None:
        for _ in range(3):
            with pytest.raises(CheckpointError, match="'a' is cut off"):
                await use(adapters, "a")
        assert places.found == ["a"]
        assert [one.name for one in await adapters.listed() if one.state == "failed"] == ["a"]
        places.broken = set()
        await adapters.load("a")
        assert await use(adapters, "a") == ["a-1"]

    run(places, work)


def test_a_lease_that_fails_gives_back_what_it_has() -> None:
    places = Places(broken={"b"})

    async def work(adapters: Adapters) -> None:
        with pytest.raises(AdapterHubError):
            await use(adapters, "a", "b")
        await adapters.unload("a")
        assert await held(adapters, places) == set()

    run(places, work)


def test_names_of_a_folder_are_its_folders_and_change_their_version_with_their_files(tmp_path: Path) -> None:
    for name in ("a", "task/b"):
        (tmp_path / "adapters" / name).mkdir(parents=True)
        (tmp_path / "adapters" / name / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_config.json").write_text("{}")
    source = FolderSource(tmp_path / "adapters")
    assert source.names() == ["a", "task/b"]
    before = source.find("task/b")
    assert source.find("task/b") == before
    time.sleep(0.01)
    (before.folder / "adapter_config.json").write_text("{ }")
    assert source.find("task/b").version != before.version
    for name in ("..", "../adapters/a", "a/../a", str(tmp_path / "adapters" / "a"), "."):
        with pytest.raises(UnknownAdapterError):
            source.find(name)


@pytest.mark.parametrize("name", ["/etc", "../up", "http://127.0.0.1:1/a/b", "C:\\a", "a/b/c/d", ""])
def test_a_hub_is_asked_for_names_alone(name: str) -> None:
    fingerprint: Any = type("Of", (), {"name": "base", "to_dict": lambda self: {}})()
    with pytest.raises(UnknownAdapterError, match="no name of an adapter"):
        Sources([HubSource("http://127.0.0.1:1", fingerprint)]).find(name)
