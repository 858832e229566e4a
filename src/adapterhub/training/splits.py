"""Splits that a data set lacks, made so that results on them can be trusted."""

from collections.abc import Mapping

import numpy as np

from adapterhub.errors import DataError
from adapterhub.training.columns import Examples

HELD_OUT = 0.1  # share of the data that becomes a split


def complete(splits: Mapping[str, Examples], seed: int) -> tuple[dict[str, Examples], list[str]]:
    """Make the splits that are missing, and say in notes what was done.

    ``train`` alone becomes 80/10/10. Where only the test is missing, the validation split takes its place (published
    results on sets with a hidden test are such), and a tenth of the training data is validation: nothing is then chosen
    on the data that is reported.

    Raises:
        DataError: if there are too few rows.
    """
    made, notes = dict(splits), []
    share = HELD_OUT
    if "test" not in made and "validation" in made:
        made["test"] = made.pop("validation")
        notes.append(f"test: the {len(made['test'])} rows of the validation split, as there is no test with labels")
    elif "test" not in made:
        made["train"], made["test"] = hold_out(made["train"], share, seed)
        notes.append(f"test: {len(made['test'])} rows held out of the training data, seed {seed}")
        share = HELD_OUT / (1 - HELD_OUT)
    if "validation" not in made:
        made["train"], made["validation"] = hold_out(made["train"], share, seed)
        notes.append(f"validation: {len(made['validation'])} rows held out of the training data, seed {seed}")
    return made, notes


def hold_out(examples: Examples, share: float, seed: int) -> tuple[Examples, Examples]:
    """Split in two: the rest, and a share that is even over the classes.

    Rows with equal texts stay together, and each class keeps at least one row in the rest.

    Raises:
        DataError: if there is no row to hold out.
    """
    groups: dict[tuple[str, str], list[int]] = {}
    for row, key in enumerate(examples.keys()):
        groups.setdefault(key, []).append(row)
    members = list(groups.values())
    labels = np.array([examples.labels[rows[0]] for rows in members])
    order = np.random.default_rng(seed).permutation(len(members))
    order = order[np.argsort(labels[order], kind="stable")]
    _, first_of_class = np.unique(labels[order], return_index=True)
    candidates = np.delete(order, first_of_class)
    size = min(max(1, round(share * len(members))), len(candidates))
    if not size:
        raise DataError(
            f"{examples.where}: {len(members)} different texts in {len(first_of_class)} classes are too few to hold "
            "some out. Give more, or files for validation and test."
        )
    # Evenly spaced in the order of classes: each class gives its share, to within a row.
    chosen = candidates[((np.arange(size) + 0.5) * len(candidates) / size).astype(int)]
    held = {row for group in chosen for row in members[group]}
    rest = [row for row in range(len(examples)) if row not in held]
    return examples.take(rest), examples.take(sorted(held))


def overlaps(splits: Mapping[str, Examples]) -> list[str]:
    """Notes on texts of the validation and test splits that are in the training data too."""
    trained = set(splits["train"].keys())
    counts = {name: sum(key in trained for key in splits[name].keys()) for name in ("validation", "test")}  # noqa: SIM118
    return [
        f"{name}: {count} of {len(splits[name])} texts are in the training data too"
        for name, count in counts.items()
        if count
    ]
