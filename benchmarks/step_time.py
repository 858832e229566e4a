"""A training step (batch 32, 100 tokens, MiniLM, float32, AdamW) against ``adapters`` 1.3.0 and PEFT's LoRA."""

import sys

from workers import OURS, PEERS, interleave, machine, running, save, summary


def main(rounds: int = 20, steps: int = 4) -> None:
    before = machine()
    with running("train", ours=OURS, plain=OURS, adapters=PEERS, peft=PEERS) as workers:
        times = interleave(workers, rounds, steps)
        about = {name: worker.about for name, worker in workers.items()}
    result = summary(times, {"ours": "adapters", "plain": "adapters", "peft": "adapters"})
    save("step_time", {"results": result, "workers": about, "machine": before, "rounds": rounds, "steps": steps})


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
