"""Texts and labels out of columns by any name, in any spelling."""

from typing import Any

import pytest

from adapterhub.errors import DataError
from adapterhub.training.columns import Columns, Examples, find_columns, find_labels, read_examples
from adapterhub.training.tables import Table


def table(*names: str, **columns: list[Any]) -> Table:
    return Table("data.csv", columns or {name: ["a", "b"] for name in names})


def examples(*labels: Any, where: str = "data.csv") -> Examples:
    return Examples(where, [f"text {row}" for row in range(len(labels))], None, labels)


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (("text", "label"), Columns(("text",), False, "label")),
        (("idx", "sentence", "label"), Columns(("sentence",), False, "label")),
        (("Sentiment", "Review"), Columns(("Review",), False, "Sentiment")),
        (("review", "text", "category", "label"), Columns(("text",), False, "label")),
        (("question", "coarse_label", "fine_label"), Columns(("question",), False, "coarse_label")),
        (("text", "text_pair", "label"), Columns(("text", "text_pair"), True, "label")),
        (("sentence1", "sentence2", "label", "idx"), Columns(("sentence1", "sentence2"), True, "label")),
        (("hypothesis", "premise", "label"), Columns(("premise", "hypothesis"), True, "label")),
        (("question1", "question2", "label"), Columns(("question1", "question2"), True, "label")),
        (("question", "sentence", "label"), Columns(("question", "sentence"), True, "label")),
        (("title", "content", "label"), Columns(("title", "content"), False, "label")),
    ],
)
def test_usual_names(names: tuple[str, ...], wanted: Columns) -> None:
    assert find_columns(table(*names), None, None) == wanted


def test_names_that_are_given_go_first() -> None:
    data = table("text", "tweet", "reply", "label", "topic")
    assert find_columns(data, "tweet", "topic") == Columns(("tweet",), False, "topic")
    assert find_columns(data, ["tweet", "reply"], None) == Columns(("tweet", "reply"), True, "label")
    assert find_columns(table("sentence1", "sentence2", "label"), "sentence2", None).texts == ("sentence2",)


@pytest.mark.parametrize(
    ("text", "label", "message"),
    [
        (None, None, r"data\.csv has no text column: looked for text, .*; the columns are 'words', 'label'"),
        ("wrods", None, r"no text column: looked for wrods; .*Name the right one by text_column"),
        ("words", "lable", r"no label column: looked for lable; .*by label_column"),
        ("label", None, r"'label' cannot be text and label at once"),
        (["a", "b", "c"], None, "two that make a pair"),
    ],
)
def test_columns_that_are_not_there(text: str | list[str] | None, label: str | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        find_columns(table("words", "label"), text, label)


def test_title_and_content_are_one_text_and_either_may_be_blank() -> None:
    data = table(title=["Good", "", "Bad"], content=["book", "film", " "], label=[1, 1, 0])
    read = read_examples(data, find_columns(data, None, None))
    assert list(read.texts) == ["Good\nbook", "film", "Bad"]
    assert read.pairs is None
    blank = table(title=["Good", " "], content=["book", ""], label=[1, 1])
    with pytest.raises(DataError, match=r"1 of 2 rows has no text in column 'title' and 'content', it is row 2"):
        read_examples(blank, find_columns(blank, None, None))


def test_pairs_are_kept_apart() -> None:
    data = table(premise=["p", "q"], hypothesis=["h", "i"], label=["yes", " no "])
    read = read_examples(data, find_columns(data, None, None))
    assert (read.texts, read.pairs, read.labels) == (["p", "q"], ["h", "i"], ["yes", "no"])
    assert read.keys() == [("p", "h"), ("q", "i")]
    assert read.take([1]) == Examples("data.csv", ["q"], ["i"], ["no"])


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        (
            ["a", " ", None, float("nan")],
            [1, 0, 1, 0],
            r"3 of 4 rows have no text in column 'text', the first is row 2",
        ),
        (["a", "b", "c", "d"], [1, None, 1, float("nan")], r"2 of 4 rows have no label in column 'label', .* row 2"),
        (["a", "b", "c", "d"], ["x", "y", "", "x"], r"1 of 4 rows has no label in column 'label', it is row 3"),
        (["a", 7, "c", "d"], [1, 0, 1, 0], r"'text' is not text: row 2 is of type int"),
    ],
)
def test_empty_and_foreign_values_are_counted(texts: list[Any], labels: list[Any], message: str) -> None:
    data = table(text=texts, label=labels)
    with pytest.raises(DataError, match=message):
        read_examples(data, find_columns(data, None, None))


def test_a_split_without_the_column_of_the_training_data() -> None:
    with pytest.raises(
        DataError, match=r"lacks the column 'label', which the training data has; its columns are id, t"
    ):
        read_examples(table("id", "text"), Columns(("text",), False, "label"))


def test_minus_one_means_unlabelled_only_where_classes_are_declared() -> None:
    columns = Columns(("text",), False, "label")
    plain = Table("data.csv", {"text": ["a", "b", "c"], "label": [1, -1, 0]})
    declared = Table("hub", plain.columns, {"label": ("neg", "pos")})
    assert list(read_examples(plain, columns).labels) == [1, -1, 0]
    assert read_examples(declared, columns) == Examples("hub", ["a", "c"], None, [1, 0])


@pytest.mark.parametrize(
    ("labels", "names", "values", "shown"),
    [
        ([1, 0, 1], None, (0, 1), ("LABEL_0", "LABEL_1")),
        (["1", "0", "2"], None, (0, 1, 2), ("LABEL_0", "LABEL_1", "LABEL_2")),
        ([1.0, 0.0], None, (0, 1), ("LABEL_0", "LABEL_1")),
        ([True, False], None, (0, 1), ("LABEL_0", "LABEL_1")),
        (["10", "2", "5"], None, (2, 5, 10), ("2", "5", "10")),
        ([4, 0], None, (0, 4), ("0", "4")),
        ([-1, 1], None, (-1, 1), ("-1", "1")),
        (["spam", "ham"], None, ("ham", "spam"), ("ham", "spam")),
        (["1", "x"], None, ("1", "x"), ("1", "x")),
        ([1, 0], ["negative", "positive"], (0, 1), ("negative", "positive")),
        ([2, 0], ["no", "maybe", "yes"], (0, 1, 2), ("no", "maybe", "yes")),
        ([5, 1, 3], ["bad", "fair", "good"], (1, 3, 5), ("bad", "fair", "good")),
        (["spam", "ham"], ["spam", "ham"], ("spam", "ham"), ("spam", "ham")),
    ],
)
def test_classes_and_their_names(
    labels: list[Any], names: list[str] | None, values: tuple[Any, ...], shown: tuple[str, ...]
) -> None:
    found = find_labels(examples(*labels), names)
    assert (found.values, found.names) == (values, shown)


def test_ids_are_positions_among_the_classes() -> None:
    assert find_labels(examples("b", "a", "c"), None).encode(examples("c", "c", "a")).labels == [2, 2, 0]
    assert find_labels(examples("4", "0"), None).encode(examples(4, 0.0, "4")).labels == [1, 0, 1]
    # Whether "1" is a number is decided by the training data, not by each split.
    assert find_labels(examples("1", "x"), None).encode(examples("1", "1")).labels == [0, 0]


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        ([1, 1, 1], None, r"all 3 rows have the label 1, and nothing can be learnt from one class"),
        ([1, 1], ["a", "b"], "from one class"),
        ([0, 1.5], None, r"row 2 has the label '1\.5' of type float"),
        ([0, [1, 2]], None, r"row 2 has the label '\[1, 2\]' of type list"),
        ([0, 1, 2], ["a", "b"], r"2 label names \(a, b\) do not fit 3 classes \(0, 1, 2\)"),
        ([0, 1], ["a", "a"], "hold a name twice: a, a"),
        (["x", "y"], ["x", "z"], r"label_names are x, z, but the labels in the data are x, y"),
    ],
)
def test_labels_that_are_no_classes(labels: list[Any], names: list[str] | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        find_labels(examples(*labels), names)


@pytest.mark.parametrize("foreign", ["maybe", 7, None, ["yes"]])
def test_a_label_that_training_lacks(foreign: Any) -> None:
    labels = find_labels(examples("yes", "no"), None)
    message = (
        r"test\.csv: 2 rows have a label that the training data lacks, the first is row 2 with .*; training has no, y"
    )
    with pytest.raises(DataError, match=message):
        labels.encode(examples("yes", foreign, foreign, where="test.csv"))
