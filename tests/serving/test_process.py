"""A server as a process: how it begins and ends, whom it answers, and what it refuses."""

import asyncio
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapterhub.errors import ServingError
from adapterhub.serving import AsyncClient, Client
from serving import making
from serving.conftest import Place, Served

TEXT = "the film was very good"


def test_it_says_how_it_is(served: Served) -> None:
    assert httpx.get(f"{served.url}/health").json()["status"] == "ok"
    assert httpx.get(f"{served.url}/ready").status_code == 200
    answer = httpx.get(f"{served.url}/v1/adapters")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.json()["model"] == "base"
    assert {one["name"] for one in answer.json()["adapters"]} >= set(making.KINDS)


def test_adapters_are_loaded_pinned_and_unloaded(client: Client) -> None:
    loaded = client.load("topics", pinned=True)
    assert (loaded["state"], loaded["pinned"], loaded["source"]) == ("loaded", True, "folder")
    assert (loaded["task"], len(loaded["labels"])) == ("multi-label-classification", 3)
    assert not client.pin("topics", False)["pinned"]
    assert client.unload("topics")["state"] == "available"
    with pytest.raises(ServingError, match="not in the model"):
        client.unload("topics")


def test_on_sigterm_what_came_before_is_answered(starting: Callable[..., Served]) -> None:
    served = starting(batch_tokens="16")  # a batch for each text or two, so that much is under way

    async def ask() -> list[Any]:
        async with AsyncClient(served.url) as client:
            await client.load("sentiment")
            tasks = [asyncio.create_task(client.predict([TEXT] * 50, "sentiment")) for _ in range(8)]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)  # by then all of them have come
            served.process.send_signal(signal.SIGTERM)
            return await asyncio.gather(*tasks)

    answers = asyncio.run(ask())
    assert [len(one) for one in answers] == [50] * 8
    served.process.wait(30)
    with pytest.raises(ServingError, match="does not answer"), Client(served.url) as client:
        client.adapters()


def test_a_new_version_is_served_without_an_error(
    starting: Callable[..., Served], place: Place, tmp_path: Path
) -> None:
    folder = tmp_path / "adapters"
    shutil.copytree(place.adapters / "sentiment", folder / "sentiment")
    served = starting(at=Place(place.base, folder, None), refresh_seconds="0.2")
    other = making.model_with(place.base, ("sentiment",), seed=5)
    scores, stop = set(), threading.Event()

    def ask() -> None:
        with Client(served.url) as client:
            while not stop.is_set():
                (answer,) = client.predict(TEXT, "sentiment")
                scores.add(round(answer["scores"][0]["score"], 4))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        with Client(served.url) as client:
            first = client.load("sentiment")["version"]
            other.save_adapter(folder / "sentiment", "sentiment")
            for _ in range(200):
                if (now := client.adapters()[0]["version"]) not in (None, first):
                    break
                stop.wait(0.05)
            assert now != first
            (answer,) = client.predict(TEXT, "sentiment")
    finally:
        stop.set()
        thread.join()
    assert round(answer["scores"][0]["score"], 4) in scores
    assert len(scores) == 2


def test_whoever_shows_no_token_is_refused(starting: Callable[..., Served]) -> None:
    served = starting(tokens='["secret"]', cors_origins='["https://hub.example"]', requests_per_minute="5")
    for token in (None, "wrong"):
        with Client(served.url, token) as client, pytest.raises(ServingError) as refused:
            client.adapters()
        assert refused.value.status == 401
    assert httpx.get(f"{served.url}/metrics").status_code == 401
    assert httpx.get(f"{served.url}/ready").status_code == 200
    with Client(served.url, "secret", patience=0) as client:
        assert client.predict(TEXT, "sentiment")[0]["label"] in ("good", "bad")
        asked = httpx.Headers({"Origin": "https://hub.example", "Access-Control-Request-Method": "POST"})
        allowed = httpx.options(f"{served.url}/v1/predict", headers=asked).headers
        assert allowed["access-control-allow-origin"] == "https://hub.example"
        with pytest.raises(ServingError, match="more than 5 requests in a minute") as too_many:
            for _ in range(10):
                client.adapters()
    assert too_many.value.status == 429


def test_what_is_not_answered_in_time_and_what_finds_no_room_is_refused(starting: Callable[..., Served]) -> None:
    served = starting(queue_rows="60", batch_tokens="16")

    async def ask() -> list[Any]:
        async with AsyncClient(served.url, patience=0) as client:
            await client.load("sentiment")
            with pytest.raises(ServingError, match="no answer within") as late:
                await client.predict([TEXT] * 60, "sentiment", timeout=0.001)
            assert late.value.status == 504
            calls = (client.predict([TEXT] * 30, "sentiment") for _ in range(20))
            return await asyncio.gather(*calls, return_exceptions=True)

    answers = asyncio.run(ask())
    refused = [one for one in answers if isinstance(one, ServingError)]
    assert {one.status for one in refused} == {429}
    assert all(len(one) == 30 for one in answers if not isinstance(one, ServingError))
    assert 0 < len(refused) < 20


def test_a_model_or_a_folder_that_is_not_there_is_told_before_anything_listens(place: Place, tmp_path: Path) -> None:
    import subprocess

    from hub.server.running import COMMAND

    for options in (
        ["--model", str(tmp_path / "none")],
        ["--model", str(place.base), "--adapters", str(tmp_path / "no")],
    ):
        done = subprocess.run([*COMMAND, "serve", "--port", "0", *options], capture_output=True, text=True, timeout=120)
        assert done.returncode == 1
        assert str(tmp_path) in done.stderr and "Traceback" not in done.stderr
