"""How long a hub that runs takes to make the pages of its web site; one request at a time, over one connection."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import httpx

from hub.server.running import start

_WARM = 3
Draw = Callable[[], tuple[Any, ...]]


def measure(folder: Path, database: str, draw: Draw, words: Callable[[], str], number: int) -> dict[str, Any]:
    """Milliseconds until a page is there whole, of each kind in turn, and of the first requests after the start.

    Args:
        folder, database: of the hub.
        draw: gives a repository, and its task, data set, base and method.
        words: gives what somebody searches for.
        number: of requests of each kind.
    """
    kinds = _kinds(draw, words)
    settings = {"ADAPTERHUB_REQUESTS_PER_MINUTE": str(10**9)} | ({"ADAPTERHUB_DATABASE": database} if database else {})
    begun = time.perf_counter()
    server = start(folder, **settings)
    try:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            started = time.perf_counter() - begun
            first = {name: _milliseconds(client, path()) for name, path in kinds.items()}
            times: dict[str, list[float]] = {name: [] for name in kinds}
            for turn in range(number + _WARM):
                for name, path in kinds.items():
                    taken = _milliseconds(client, path())
                    if turn >= _WARM:
                        times[name].append(taken)
    finally:
        server.stop()
    measured = {name: {**summary(values), "first": round(first[name], 1)} for name, values in times.items()}
    return {"milliseconds": measured, "seconds to start": round(started, 2)}


def summary(values: list[float]) -> dict[str, float]:
    """Median, 99th percentile and the longest."""
    ordered = sorted(values)
    p99 = ordered[min(len(ordered) - 1, round(0.99 * len(ordered)))]
    return {
        name: round(one, 2) for name, one in (("median", statistics.median(values)), ("p99", p99), ("max", ordered[-1]))
    }


def _kinds(draw: Draw, words: Callable[[], str]) -> dict[str, Callable[[], str]]:
    """What is asked for, each as something that draws a path."""

    def place(parts: int) -> str:
        _, task, dataset, *_ = draw()
        root = "languages" if task.kind == "language" else "tasks"
        return "/".join(["/explore", root, *map(quote, (task.slug, dataset.slug)[:parts])])

    return {
        "home": lambda: "/",
        "explore": lambda: place(0),
        "task": lambda: place(1),
        "data set": lambda: place(2),
        "search": lambda: f"/search?{urlencode({'q': words()})}",
        "search by method": lambda: f"/search?{urlencode({'method': draw()[4]})}",
        "adapter": lambda: f"/{draw()[0].full_name}",
        "base model": lambda: f"/models/{quote(draw()[3].name)}",
        "account": lambda: f"/{draw()[0].owner.name}",
    }


def _milliseconds(client: httpx.Client, path: str) -> float:
    begun = time.perf_counter()
    answer = client.get(path)
    taken = (time.perf_counter() - begun) * 1000
    if answer.status_code != 200:
        raise RuntimeError(f"{path}: {answer.status_code}")
    return taken
