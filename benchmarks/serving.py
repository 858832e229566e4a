"""Serving: what many adapters cost against one, and what the engine costs against the model alone.

Two servers of MiniLM run at once, each a process of its own, and are asked in turn, for a short while each, by this
process: one for one adapter, the other for many of which some are asked for often and most seldom (Zipf). Between these
rounds a bare loop runs forward passes of the same texts in batches that were made before.

Usage: python benchmarks/serving.py [--adapters 1000] [--rounds 20] [--requests 200]. Writes
results/serving.json.
"""

import argparse
import asyncio
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from adapterhub.inference.batching import Sized, batches
from adapterhub.serving import AsyncClient
from adapterhub.serving.model import ServedModel
from adapterhub.serving.rows import Row
from adapterhub.training.data import load_data
from workers import THREADS, interval, machine, save

TOKENS, AT_ONCE, TEXTS_EACH = 2048, 64, 4
EXPONENT = 1.1


@dataclass(frozen=True)
class Load:
    """What is asked in one round: an adapter and some texts for each request."""

    requests: Sequence[tuple[str, Sequence[str]]]

    @property
    def rows(self) -> int:
        """The texts of all of them."""
        return sum(len(texts) for _, texts in self.requests)


def main() -> None:
    """Measure, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--adapters", type=int, default=1000)
    parser.add_argument("--config", default="lora")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--requests", type=int, default=200)
    arguments, before = parser.parse_args(), machine()
    texts = [str(row["text"]) for row in load_data("reviews").train]
    with tempfile.TemporaryDirectory() as name:
        make(Path(name), arguments.config, arguments.adapters)
        found = asyncio.run(measure(Path(name), texts, arguments))
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    about = {"machine": before, "threads": THREADS, "versions": versions, "arguments": vars(arguments)}
    save("serving", {"results": found, **about})


def make(folder: Path, config: str, count: int) -> None:
    """Random adapters of one configuration, each with a head."""
    model: Any = ServedModel.open("minilm").model
    for number in range(count):
        name = f"a{number}"
        model.add_adapter(name, config=config)
        model.add_classification_head(name, num_labels=2)
        model.save_adapter(folder / name, name)
        model.delete_adapter(name)
        model.delete_head(name)


async def measure(folder: Path, texts: Sequence[str], arguments: argparse.Namespace) -> dict[str, Any]:
    """Rows a second of one adapter, of many and of the bare loop, round by round."""
    chance = random.Random(0)
    bare = bare_loop(folder / "a0", texts)
    with served(folder) as one, served(folder) as many:
        async with AsyncClient(one, patience=600, timeout=600) as to_one, AsyncClient(many, timeout=600) as to_many:
            await to_one.load("a0")
            for number in range(arguments.adapters):
                await to_many.load(f"a{number}")
            rounds: list[dict[str, float]] = []
            for _ in range(arguments.rounds + 1):
                alike = loaded(chance, texts, 1, arguments.requests)
                mixed = loaded(chance, texts, arguments.adapters, arguments.requests)
                rates = {"one": await rate(to_one, alike), "many": await rate(to_many, mixed), "bare": bare(alike)}
                rounds.append(rates)
    return summary(rounds[1:])


def loaded(chance: random.Random, texts: Sequence[str], adapters: int, requests: int) -> Load:
    """Requests for adapters, the i-th of which is asked for with a weight of ``1 / i ** 1.1``."""
    weights = [1 / (number + 1) ** EXPONENT for number in range(adapters)]
    names = chance.choices(range(adapters), weights, k=requests)
    return Load([(f"a{name}", chance.sample(list(texts), TEXTS_EACH)) for name in names])


async def rate(client: AsyncClient, load: Load) -> float:
    """Rows a second, with some requests under way all the time."""
    room = asyncio.Semaphore(AT_ONCE)

    async def ask(name: str, texts: Sequence[str]) -> None:
        async with room:
            await client.predict(list(texts), name)

    begun = time.perf_counter()
    await asyncio.gather(*(ask(name, texts) for name, texts in load.requests))
    return load.rows / (time.perf_counter() - begun)


def bare_loop(folder: Path, texts: Sequence[str]) -> Callable[[Load], float]:
    """The model with one adapter alone, on batches that are there already; gives rows a second."""
    torch.set_num_threads(THREADS)
    model = ServedModel.open("minilm")
    slot = model.load(folder).slot
    model.model.set_active_adapters(slot)

    def run(load: Load) -> float:
        given = [text for _, own in load.requests for text in own]
        encoded = model.tokenizer(given, truncation=True, max_length=512)
        rows = [Row({name: encoded[name][number] for name in encoded}, None, slot) for number in range(len(given))]
        made = [
            model.batch([rows[sized.number] for sized in batch])
            for batch in batches((Sized(number, (row.tokens,)) for number, row in enumerate(rows)), TOKENS)
        ]
        begun = time.perf_counter()
        with torch.inference_mode():
            for batch in made:
                model.model(**batch)
        return len(rows) / (time.perf_counter() - begun)

    return run


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a server of the adapters in a folder."""
    command = [sys.executable, "-m", "adapterhub", "serve", "--model", "minilm", "--adapters", str(folder)]
    process = subprocess.Popen([*command, "--port", "0"], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "is served at" in line)
        yield line.split()[-1]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def summary(rounds: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Medians over the rounds, and of the ratios within them, with the interval of 95 %."""
    ratios = {
        "many to one": [one["many"] / one["one"] for one in rounds],
        "one to bare": [one["one"] / one["bare"] for one in rounds],
    }
    return {
        "rows a second": {name: round(statistics.median(one[name] for one in rounds), 1) for name in rounds[0]},
        "ratios": {name: _middle(values) for name, values in ratios.items()},
    }


def _middle(values: list[float]) -> dict[str, Any]:
    return {"median": round(statistics.median(values), 3), "interval": [round(end, 3) for end in interval(values)]}


if __name__ == "__main__":
    main()
