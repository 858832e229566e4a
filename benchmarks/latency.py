"""One row of 32 tokens through MiniLM, float32: an active adapter, and an idle one, against the bare model."""

import sys

from workers import OURS, PEERS, Worker, interleave, save, summary


def main(rounds: int = 40, steps: int = 60) -> None:
    ours = {
        "bare model": Worker(OURS, "worker.py", "bare", "latency"),
        "adapterhub, active": Worker(OURS, "worker.py", "ours", "latency"),
        "adapterhub, idle": Worker(OURS, "worker.py", "idle", "latency"),
    }
    peers = {
        "bare model": Worker(PEERS, "worker.py", "bare", "latency"),
        "adapters, active": Worker(PEERS, "worker.py", "adapters", "latency"),
        "peft lora, active": Worker(PEERS, "worker.py", "peft", "latency"),
    }
    result = {}
    for name, workers in (("ours", ours), ("peers", peers)):
        times = interleave(workers, rounds, steps)
        result[name] = summary(times, "bare model") | {"workers": {k: v.about for k, v in workers.items()}}
        for worker in workers.values():
            worker.close()
    save("latency", result | {"rounds": rounds, "steps": steps})


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
