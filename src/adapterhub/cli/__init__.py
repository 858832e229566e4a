"""The command ``adapterhub``: parse, call, show."""

import os
import sys
from collections.abc import Sequence

# Set before the libraries that read them are imported.
_ENVIRONMENT = {
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with 0 (done), 1 (an error), 2 (wrong usage) or 130 (interrupted)."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        from adapterhub.cli.app import run
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.exit("adapterhub: the command line needs more packages: pip install 'adapterhub[train]'")
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))
