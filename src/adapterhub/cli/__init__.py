"""The command ``adapterhub``: parse, call, show."""

import os
import sys


def main() -> None:
    """Run the command line; exit codes are 0 (done), 1 (an error of ours), 2 (usage), 130 (interrupted)."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        from adapterhub.cli.app import run
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich", "click"):
            raise
        sys.exit("adapterhub: the command line needs more packages: pip install 'adapterhub[train]'")
    sys.exit(run())
