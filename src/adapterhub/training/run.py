"""``python -m adapterhub.training.run RUN.json``: a run in a process of its own, so that its peak memory is its own."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from adapterhub.training.data import load_data
from adapterhub.training.recipe import train_classifier
from adapterhub.training.settings import Settings
from adapterhub.training.trunk_cache import TrunkCache


def main(path: str) -> None:
    """Do the run that a JSON file describes: ``settings``, ``data`` and its options; the result goes to ``result``.

    Where it names a folder as ``trunk_cache``, what layers below the lowest adapter give is kept there. Checkpoints go
    beside the file. How far it has come is printed, from 0 to 1, a line for each step.
    """
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    run = json.loads(Path(path).read_text(encoding="utf-8"))
    data = load_data(run["data"], **run["data_options"])
    cache = TrunkCache(Path(run["trunk_cache"])) if run.get("trunk_cache") else None
    trained = train_classifier(
        Settings(**run["settings"]), data, Path(path).parent, progress=_print_share, trunk_cache=cache
    )
    Path(run["result"]).write_text(json.dumps(asdict(trained.result)), encoding="utf-8")


def _print_share(done: float, total: float, what: str) -> None:
    print(f"{done / total:.4f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
