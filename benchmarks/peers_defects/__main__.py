"""What `adapters` gets wrong, and PEFT where it is named, shown by running them: each line is a check of a closed form.

Runs in the environment of the peers (``scripts/peer-env``): ``.venv-peers/bin/python benchmarks/peers_defects``.
Tests of this library check the same closed forms for it.
"""

import logging
import warnings

import adapters
import architectures
import compositions
import files
import maths
import peft
import prompts
import tasks
import trainers
import transformers
import vocabularies

if __name__ == "__main__":
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    print(f"adapters {adapters.__version__}, PEFT {peft.__version__}, transformers {transformers.__version__}")
    for module in (files, maths, prompts, architectures, tasks, compositions, vocabularies, trainers):
        for check in module.CHECKS:
            try:
                print(f"{check.__name__}: {check()}")
            except Exception as error:
                print(f"{check.__name__}: could not be run: {type(error).__name__}: {error}")
