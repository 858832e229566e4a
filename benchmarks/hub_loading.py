"""What a name costs: load_adapter("sentiment/sst-2@me") with what it names fetched already, against its folder.

python benchmarks/hub_loading.py [rounds]
"""

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import RobertaConfig, RobertaModel

import adapterhub
from workers import ROOT, machine, save

sys.path.insert(0, str(ROOT / "tests"))

from hub.server.running import start

_NAME = "sentiment/sst-2@me"


def model() -> Any:
    """A model of the size of roberta-base, of random numbers, with an adapter."""
    torch.manual_seed(0)
    made = RobertaModel(RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1))
    made.config._name_or_path = "roberta-base"
    return adapterhub.init(made.eval())


def seconds(do: Callable[[], Any]) -> float:
    """How long a call takes."""
    begin = time.perf_counter()
    do()
    return time.perf_counter() - begin


def main(rounds: int = 30) -> None:
    """Take turns at the three ways; results go to ``results/hub_loading.json``."""
    before = machine()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ADAPTERHUB_HOME"] = f"{folder}/home"
        hub = start(Path(folder) / "hub")
        hub.add_user("me")
        adapterhub.login(hub.token("me"), hub.url)
        mine = model()
        mine.add_adapter("sst-2", config="seq_bn")
        mine.push_adapter_to_hub(_NAME, "sst-2")
        mine.delete_adapter("sst-2")
        pulled = adapterhub.pull(_NAME)
        pinned = f"@{pulled.found.repository}@{pulled.found.commit}" if pulled.found else ""
        ways = {"folder": str(pulled.folder), "name": _NAME, "commit": pinned}
        found: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(rounds):
            for way, name in ways.items():
                load = lambda name=name: mine.load_adapter(name, load_as="x", overwrite_ok=True)  # noqa: E731
                found[way].append(seconds(load))
        hub.stop()
    over = {
        way: statistics.median(one - other for one, other in zip(values, found["folder"], strict=True))
        for way, values in found.items()
    }
    result = {
        "what": f"a bottleneck adapter for a model of the size of roberta-base, {rounds} rounds in turns, a hub on the "
        "same machine, everything fetched before; milliseconds",
        "median": {way: round(1000 * statistics.median(values), 1) for way, values in found.items()},
        "over_the_folder": {way: round(1000 * value, 1) for way, value in over.items()},
        "machine": before,
    }
    save("hub_loading", result)
    print(json.dumps({key: result[key] for key in ("median", "over_the_folder")}, indent=1))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
