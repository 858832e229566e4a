"""One row of 32 tokens through MiniLM, float32: each library against the bare model of its own environment.

``idle`` is ours with an adapter that is not active. Ours is measured under ``torch.compile`` too, against the bare
model that is compiled as well.
"""

import sys
from typing import Any

from workers import OURS, PEERS, interleave, machine, running, save, summary

REFERENCES = {"ours": "bare_ours", "idle": "bare_ours", "adapters": "bare_peers", "peft": "bare_peers"}


def main(rounds: int = 40, steps: int = 60) -> None:
    before = machine()
    environments = {"bare_ours": OURS, "ours": OURS, "idle": OURS}
    environments |= {"bare_peers": PEERS, "adapters": PEERS, "peft": PEERS}
    with running("latency", **environments) as workers:
        times = interleave(workers, rounds, steps)
        about = {name: worker.about for name, worker in workers.items()}
    result = {"results": summary(times, REFERENCES), "compiled": compiled(rounds, steps), "workers": about}
    save("latency", result | {"machine": before, "rounds": rounds, "steps": steps})


def compiled(rounds: int, steps: int) -> dict[str, Any]:
    """Ours and the bare model, both under ``torch.compile``."""
    with running("compiled", bare_ours=OURS, ours=OURS) as workers:
        return summary(interleave(workers, rounds, steps), {"ours": "bare_ours"})


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
