"""Splits that are made: even over classes, reproducible, without a text on both sides."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapterhub.errors import DataError
from adapterhub.training.columns import Examples
from adapterhub.training.splits import complete, hold_out, overlaps


def examples(*labels: int) -> Examples:
    return Examples("data.csv", [f"text {row}" for row in range(len(labels))], None, labels)


@given(
    counts=st.lists(st.integers(1, 60), min_size=2, max_size=6), share=st.floats(0.05, 0.4), seed=st.integers(0, 2**32)
)
def test_every_class_gives_its_share(counts: list[int], share: float, seed: int) -> None:
    whole = examples(*(label for label, count in enumerate(counts) for _ in range(count)))
    size = min(max(1, round(share * len(whole))), len(whole) - len(counts))
    if not size:
        with pytest.raises(DataError, match="too few to hold some out"):
            hold_out(whole, share, seed)
        return
    rest, held = hold_out(whole, share, seed)
    assert len(held) == size
    assert sorted([*rest.texts, *held.texts]) == sorted(whole.texts)
    assert set(rest.labels) == set(whole.labels), "no class is lost to training"
    assert all(text == whole.texts[int(text.split()[1])] for text in held.texts)
    there = Counter(held.labels)
    for label, count in enumerate(counts):
        assert abs(there[label] - size * (count - 1) / (len(whole) - len(counts))) < 1


def test_the_seed_alone_decides() -> None:
    whole = examples(*([0, 1] * 50))
    assert hold_out(whole, 0.2, 3) == hold_out(whole, 0.2, 3)
    assert hold_out(whole, 0.2, 3)[1].texts != hold_out(whole, 0.2, 4)[1].texts


def test_equal_texts_stay_together_and_pairs_are_equal_only_as_pairs() -> None:
    texts = [f"text {row % 40}" for row in range(120)]
    rest, held = hold_out(Examples("d", texts, None, [row % 2 for row in range(120)]), 0.25, 0)
    assert not set(rest.texts) & set(held.texts)
    assert len(held) == 30
    pairs = Examples("d", ["same"] * 40, [str(row) for row in range(40)], [row % 2 for row in range(40)])
    assert len(hold_out(pairs, 0.25, 0)[1]) == 10


def test_one_split_becomes_80_10_10() -> None:
    made, notes = complete({"train": examples(*([0, 1] * 100))}, seed=5)
    assert {split: Counter(part.labels) for split, part in made.items()} == {
        "train": {0: 80, 1: 80},
        "validation": {0: 10, 1: 10},
        "test": {0: 10, 1: 10},
    }
    assert notes == [
        "test: 20 rows held out of the training data, seed 5",
        "validation: 20 rows held out of the training data, seed 5",
    ]


def test_published_validation_is_the_test_where_there_is_none() -> None:
    validation = Examples("dev.csv", ["x", "y"], None, [0, 1])
    made, notes = complete({"train": examples(*([0, 1] * 20)), "validation": validation}, seed=0)
    assert made["test"] == validation
    assert (len(made["train"]), len(made["validation"])) == (36, 4)
    assert notes[0].startswith("test: the 2 rows of the validation split")


def test_what_is_there_is_left_alone() -> None:
    splits = {"train": examples(*([0, 1] * 20)), "test": Examples("t", ["x", "y"], None, [0, 1])}
    made, notes = complete(splits, seed=0)
    assert made["test"] == splits["test"] and len(made["validation"]) == 4 and len(notes) == 1
    assert complete(made, seed=1) == (made, [])


def test_texts_in_two_splits_are_noted() -> None:
    part = Examples("d", ["a", "b", "c"], None, [0, 1, 0])
    splits = {"train": part, "validation": part.take([0, 1]), "test": Examples("t", ["x"], None, [0])}
    assert overlaps(splits) == ["validation: 2 of 2 texts are in the training data too"]
