"""Batches whose rows have adapters of their own (MiniLM, 32 tokens a row, whole forward passes).

64 rows of 64 adapters against 64 rows of one, by a composition (``each``), by the slots of a bank (``slots``), and in
shares of 1, 1/2, 1/3, ... (``zipf``); 32 rows of 16 adapters against 32 rows of one, of each library; 8 tasks on the
same 16 rows, with adapters in the top half of the model, in one pass against 8.
"""

import sys
from contextlib import ExitStack

from workers import OURS, PEERS, Worker, interleave, machine, save, summary

# name -> (library, task: method, case, rows, adapters, data type)
WORKERS: dict[str, tuple[str, str]] = {}
AGAINST: dict[str, str] = {}


def _compare(prefix: str, library: str, task: str, one: str, *others: str) -> None:
    """Workers of one library and task: ``one`` and those that are compared with it."""
    for case in (one, *others):
        WORKERS[f"{prefix}_{case}"] = library, task.format(case)
    AGAINST.update({f"{prefix}_{case}": f"{prefix}_{one}" for case in others})


for dtype in ("float32", "bfloat16"):
    _compare(f"{dtype}_64", "ours", f"rows:seq_bn:{{}}:64:64:{dtype}", "one", "each", "slots", "slot", "zipf")
    _compare(f"{dtype}_lora_64", "ours", f"rows:lora:{{}}:64:64:{dtype}", "one", "each", "slots")
_compare("ours_32", "ours", "rows:seq_bn:{}:32:16:float32", "one", "each")
_compare("adapters_32", "adapters", "rows:seq_bn:{}:32:16:float32", "one", "each")
_compare("ours_lora_32", "ours", "rows:lora:{}:32:16:float32", "one", "each")
_compare("peft_32", "peft", "rows:lora:{}:32:16:float32", "one", "each")
_compare("tasks", "ours", "rows:seq_bn:{}:16:8:float32", "passes", "parallel")


def main(rounds: int = 20, steps: int = 2, only: str = "") -> None:
    """Run all, or those workers whose names begin with ``only``, and keep the result."""
    before = machine()
    chosen = {name: one for name, one in WORKERS.items() if name.startswith(only)}
    with ExitStack() as stack:
        workers = {}
        for name, (library, task) in chosen.items():
            workers[name] = Worker(OURS if library == "ours" else PEERS, library, task)
            stack.callback(workers[name].close)
        times = interleave(workers, rounds, steps)
        about = {name: worker.about for name, worker in workers.items()}
    against = {name: one for name, one in AGAINST.items() if name in chosen}
    result = {"results": summary(times, against), "workers": about, "machine": before, "rounds": rounds, "steps": steps}
    save("rows" if not only else f"rows_{only}", result)


if __name__ == "__main__":
    rounds, steps, *only = sys.argv[1:] or ("20", "2")
    main(int(rounds), int(steps), *only)
