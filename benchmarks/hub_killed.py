"""Publishes adapters with stock clients, eight at a time, while the server is killed by SIGKILL again and again.

python benchmarks/hub_killed.py [publishes] [kills]
"""

import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from workers import ROOT, machine, save

sys.path.insert(0, str(ROOT / "tests"))

from hub.server.killing import publish_and_kill


def main(publishes: int = 200, kills: int = 20) -> None:
    """Do so and see what is there; results go to ``results/hub_killed.json``."""
    before = machine()
    with tempfile.TemporaryDirectory() as folder:
        outcome = publish_and_kill(Path(folder) / "hub", publishes, kills)
    versions = {name: version(name) for name in ("huggingface_hub", "hf_xet")}
    save("hub_killed", outcome.to_dict() | {"machine": before, "versions": versions})
    if outcome.lost or outcome.broken or outcome.left or outcome.acknowledged != publishes:
        sys.exit("something was lost, broken or left over")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
