"""Adapters by the thousand: registered, loaded, activated, and what they take in memory; and what importing takes.

Real folders of adapters are made first, in a temporary folder: MiniLM, ``seq_bn`` of width 24 and a head of two
classes, each with values of its own. They were written shortly before they are read: what is measured finds them in the
system's cache of files. Each measurement is a process of its own. Arguments: adapters to register, adapters to load,
rounds of imports.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from worker import backbone
from workers import THREADS, interval, machine, save

WARM = "in the system's cache of files"
IMPORTS = {
    "torch, transformers": "import torch, transformers",
    "adapterhub": "import adapterhub",
    "a model class of transformers": "import torch, transformers; transformers.BertModel, transformers.AutoModel",
    "the same with adapters": "import adapterhub; adapterhub.AutoAdapterModel, adapterhub.init",
}
AGAINST = {"adapterhub": "torch, transformers", "the same with adapters": "a model class of transformers"}
COMMANDS = {"adapterhub --help": ["--help"], "adapterhub hub --help": ["hub", "--help"]}


def model() -> Any:
    """MiniLM with flexible heads."""
    import adapterhub

    return adapterhub.AutoAdapterModel.from_pretrained(backbone()).eval()


def make(folder: Path, count: int) -> None:
    """Folders of adapters that were saved, each with values of its own."""
    made = model()
    made.add_adapter("a", config="seq_bn")
    made.add_classification_head("a", num_labels=2)
    parameters = [*made.adapters["a"].parameters(), *made.heads["a"].parameters()]
    sync, os.fsync = os.fsync, lambda handle: None  # a crash may take what is made here
    for number in range(count):
        with torch.no_grad():
            for parameter in parameters:
                parameter.normal_(std=0.02)
        made.save_adapter(folder / f"a{number:05}", "a")
        if number % 500 == 0:
            print(f"made {number} of {count} folders", file=sys.stderr, end="\r")
    os.fsync = sync


def memory() -> tuple[int, int]:
    """Bytes of this process that are resident, and those of them that are its own alone."""
    found = dict.fromkeys(("Rss", "Private_Clean", "Private_Dirty"), 0)
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in found:
            found[name] = 1024 * int(rest.split()[0])
    return found["Rss"], found["Private_Clean"] + found["Private_Dirty"]


def timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def registering(folder: Path, count: int) -> dict[str, Any]:
    """Seconds to register all folders, and what the pool then takes."""
    pool = model().adapter_pool()
    before = memory()
    seconds = timed(lambda: pool.register_folder(folder))
    return {"adapters": len(pool), "seconds": round(seconds, 3), "resident_bytes": memory()[0] - before[0]}


def loading(folder: Path, count: int) -> dict[str, Any]:
    """Seconds to load some adapters, microseconds to activate one of them, and what they take."""
    made = model()
    pool = made.adapter_pool()
    names = pool.register_folder(folder)[:count]
    run(made, pool, names[0])
    before = memory()
    seconds = timed(lambda: pool.load(*names))
    resident, own = memory()
    weights = pool.statistics.disk_bytes // len(pool) * (count - 1)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0)).tolist()
    activating = [timed(lambda name=names[number]: pool.activate(name)) for number in order]
    return {
        "adapters": len(pool.loaded),
        "seconds": round(seconds, 3),
        "weights_bytes": weights,
        "resident_to_weights": round((resident - before[0]) / weights, 4),
        "own_to_weights": round((own - before[1]) / weights, 4),
        "activate_microseconds": round(1e6 * statistics.median(activating), 2),
        "activate_microseconds_95th": round(1e6 * sorted(activating)[round(0.95 * count) - 1], 2),
    }


def run(made: Any, pool: Any, name: str) -> None:
    """One pass, after which nothing is prepared for the first time any more."""
    pool.activate(name)
    with torch.inference_mode():
        made(input_ids=torch.ones(1, 8, dtype=torch.long))
    pool.activate(None)


def imports(rounds: int) -> dict[str, Any]:
    """Seconds of processes that import something, in turn: medians, and those of the ratios in a round."""
    times: dict[str, list[float]] = {name: [] for name in ("nothing", *IMPORTS, *COMMANDS)}
    commands = {"nothing": ["-c", "pass"]} | {name: ["-c", code] for name, code in IMPORTS.items()}
    commands |= {name: ["-m", "adapterhub", *arguments] for name, arguments in COMMANDS.items()}
    names = list(commands)
    for done in range(rounds):
        for name in names[done % len(names) :] + names[: done % len(names)]:
            asked = [sys.executable, *commands[name]]
            seconds = timed(lambda asked=asked: subprocess.run(asked, check=True, capture_output=True))
            times[name].append(seconds)
    result: dict[str, Any] = {name: {"seconds": round(statistics.median(own), 3)} for name, own in times.items()}
    for name, other in AGAINST.items():
        ratios = [own / reference for own, reference in zip(times[name], times[other], strict=True)]
        result[name] |= {
            "against": other,
            "ratio": round(statistics.median(ratios), 4),
            "ratio_interval": [round(end, 4) for end in interval(ratios)],
        }
    return result


def apart(task: str, folder: Path, count: int) -> dict[str, Any]:
    """What a task measures in a process of its own."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    environment["OMP_NUM_THREADS"] = str(THREADS)
    asked = [sys.executable, __file__, task, str(folder), str(count)]
    ran = subprocess.run(asked, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    answer: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return answer


def main(registered: int = 10_000, loaded: int = 1_000, rounds: int = 7) -> None:
    before = machine()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        make(folder, registered)
        result = {"register": apart("register", folder, registered), "load": apart("load", folder, loaded)}
    result["import"] = imports(rounds)
    save("loading", {"results": result, "files": WARM, "machine": before, "threads": THREADS})


if __name__ == "__main__":
    if sys.argv[1:2] in (["register"], ["load"]):
        task, folder, count = sys.argv[1:]
        print(json.dumps({"register": registering, "load": loading}[task](Path(folder), int(count))))
    else:
        main(*map(int, sys.argv[1:]))
