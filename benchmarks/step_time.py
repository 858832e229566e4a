"""A training step (batch 32, 100 tokens, MiniLM, float32, AdamW) against ``adapters`` 1.3.0 and PEFT's LoRA."""

import sys

from workers import OURS, PEERS, Worker, interleave, save, summary


def main(rounds: int = 15, steps: int = 4) -> None:
    workers = {
        "adapterhub seq_bn": Worker(OURS, "worker.py", "ours", "train"),
        "adapters seq_bn": Worker(PEERS, "worker.py", "adapters", "train"),
        "peft lora": Worker(PEERS, "worker.py", "peft", "train"),
    }
    times = interleave(workers, rounds, steps)
    about = {name: worker.about for name, worker in workers.items()}
    save("step_time", summary(times, "adapters seq_bn") | {"workers": about, "rounds": rounds, "steps": steps})
    for worker in workers.values():
        worker.close()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
