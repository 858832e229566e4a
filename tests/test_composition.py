"""Compositions as expressions: what they hold, and what is refused."""

import pickle
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapterhub.composition import Average, Composition, Stack, parse_composition, renamed
from adapterhub.errors import CompositionError

NAMES = st.text("abcdef-/", min_size=1, max_size=4)
NESTED = st.recursive(NAMES, lambda inner: st.lists(inner, min_size=1, max_size=3), max_leaves=8)


def leaves(expression: Any) -> list[str]:
    if isinstance(expression, str):
        return [expression]
    return [name for child in expression for name in leaves(child)]


def test_a_name_is_a_stack_of_one_and_nothing_stays_nothing() -> None:
    assert parse_composition("a") == Stack("a")
    assert parse_composition(None) is None
    assert parse_composition([]) is None
    assert parse_composition(Stack("a", "b")) == parse_composition(("a", "b")) == parse_composition(["a", ["b"]])


@given(st.lists(NESTED, min_size=1, max_size=4))
def test_lists_are_flattened_in_order(nested: list[Any]) -> None:
    stack = Stack(*nested)
    assert list(stack) == leaves(nested)
    assert len(stack) == len(leaves(nested))
    assert [stack[index] for index in range(len(stack))] == list(stack)


@given(st.recursive(st.builds(Stack, NAMES), lambda inner: st.builds(Stack, inner, NAMES), max_leaves=6))
def test_blocks_in_blocks_are_kept_and_looked_into(stack: Stack) -> None:
    names = leaves(stack)
    assert (stack.first(), stack.last(), stack.flatten()) == (names[0], names[-1], set(names))
    assert eval(repr(stack), {"Stack": Stack}) == stack  # the text of an expression is the expression
    assert hash(stack) == hash(eval(repr(stack), {"Stack": Stack}))
    assert pickle.loads(pickle.dumps(stack)) == stack


def test_kinds_are_not_equal_and_none_can_be_changed() -> None:
    assert Stack("a") != Composition("a")
    with pytest.raises(FrozenInstanceError):
        Stack("a").children = ("b",)  # type: ignore[misc]


@pytest.mark.parametrize("wrong", [1, {"a": 1}, ["a", None], Stack])
def test_anything_else_is_refused(wrong: Any) -> None:
    with pytest.raises(CompositionError, match="composition"):
        parse_composition(wrong)


def test_an_empty_block_is_refused() -> None:
    with pytest.raises(CompositionError, match="Stack needs at least one adapter"):
        Stack([])


@given(NESTED)
def test_adapters_of_a_composition_get_other_names(nested: Any) -> None:
    setup = parse_composition([nested])
    assert setup is not None
    names = {name: f"slot-{number}" for number, name in enumerate(setup.names())}
    other = renamed(setup, names)
    assert leaves(other) == [names[name] for name in leaves(setup)]
    assert renamed(other, {new: name for name, new in names.items()}) == setup
    with pytest.raises(CompositionError, match="no other name"):
        renamed(setup, {})


def test_options_stay_with_other_names() -> None:
    setup = Average("a", Stack("a", "b"), weights=[0.25, 0.75])
    assert renamed(setup, {"a": "x", "b": "y"}) == Average("x", Stack("x", "y"), weights=[0.25, 0.75])
