"""Dropout drawn the fast way: as random as PyTorch's, with the same gradients, wherever a model drops."""

import contextlib
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import tiny
from adapterhub.training import dropout as module
from adapterhub.training.dropout import dropout, fast_dropout, scaled_dot_product_attention


def test_the_share_that_is_dropped_and_its_scale() -> None:
    torch.manual_seed(0)
    for p in (0.001, 0.1, 0.5, 0.9):
        count = 1_000_000
        values = dropout(torch.ones(count), p)
        kept = values[values != 0]
        assert abs(len(kept) / count - (1 - p)) < 5 * math.sqrt(p * (1 - p) / count)
        assert kept.unique().numel() == 1 and kept[0].item() == pytest.approx(1 / (1 - p), rel=1e-4)


def test_neighbours_are_independent() -> None:
    """Elements that share a draw: every lane has the share, and pairs of lanes are dropped together at p squared."""
    torch.manual_seed(1)
    p, rows = 0.3, 400_000
    dropped = (dropout(torch.ones(rows, 8), p) == 0).double()
    bound = 5 / math.sqrt(rows)
    assert torch.allclose(dropped.mean(0), torch.full((8,), p, dtype=torch.double), atol=bound)
    together = dropped.T @ dropped / rows
    assert torch.allclose(together - torch.diag(together.diag()), p * p * (1 - torch.eye(8).double()), atol=bound)
    later = (dropped[1:] * dropped[:-1]).mean(0)
    assert torch.allclose(later, torch.full((8,), p * p, dtype=torch.double), atol=bound)


def test_gradients_are_those_of_the_mask() -> None:
    inputs = torch.randn(7, 5, dtype=torch.double, requires_grad=True)
    mask = torch.rand(7, 5) > 0.5
    assert torch.autograd.gradcheck(lambda x: module._Masked.apply(x, mask, 2.0), inputs)
    assert torch.autograd.gradgradcheck(lambda x: module._Masked.apply(x, mask, 2.0), inputs)
    values = dropout(inputs, 0.4)
    values.sum().backward()
    assert torch.allclose(inputs.grad * inputs, values)


def test_the_seed_decides() -> None:
    inputs = torch.ones(101)
    torch.manual_seed(5)
    first, second = dropout(inputs, 0.5), dropout(inputs, 0.5)
    torch.manual_seed(5)
    assert torch.equal(dropout(inputs, 0.5), first) and not torch.equal(first, second)


def test_nothing_and_everything() -> None:
    inputs = torch.randn(3, 3)
    assert dropout(inputs, 0.5, training=False) is inputs and torch.equal(dropout(inputs, 0.0), inputs)
    assert dropout(inputs, 1.0).count_nonzero() == 0
    assert dropout(torch.empty(0, 3), 0.5).shape == (0, 3)
    for p in (-0.1, 1.1):
        with pytest.raises(ValueError, match="between 0 and 1"):
            dropout(inputs, p)
    place = inputs.clone()
    assert dropout(place, 0.5, inplace=True) is place and not torch.equal(place, inputs)


def attention(kind: str) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
    generator = torch.Generator().manual_seed(3)
    query, key, value = (torch.randn(2, 4, length, 8, generator=generator) for length in (5, 6, 6))
    given: dict[str, Any] = {}
    if kind == "bool":
        given["attn_mask"] = torch.rand(2, 1, 5, 6, generator=generator) > 0.4
        given["attn_mask"][0, 0, 2] = False  # a query that may see no key
    if kind == "float":
        given["attn_mask"] = torch.randn(2, 4, 5, 6, generator=generator)
    if kind == "causal":
        given["is_causal"] = True
    if kind == "scale":
        given["scale"] = 0.3
    if kind == "grouped":
        key, value, given["enable_gqa"] = key[:, :2], value[:, :2], True
    return (query, key, value), given


@pytest.mark.parametrize("kind", ["plain", "bool", "float", "causal", "scale", "grouped"])
def test_attention_drops_from_its_weights(kind: str) -> None:
    """Weights come from PyTorch's attention with the identity for values."""
    (query, key, value), given = attention(kind)
    weights = F.scaled_dot_product_attention(query, key, torch.eye(6).expand(*key.shape[:2], 6, 6), **given)
    wide = value.repeat_interleave(2, 1) if kind == "grouped" else value
    torch.manual_seed(7)
    expected = dropout(weights, 0.25) @ wide
    torch.manual_seed(7)
    found = scaled_dot_product_attention(query, key, value, dropout_p=0.25, **given)
    torch.testing.assert_close(found, expected)
    without = F.scaled_dot_product_attention(query, key, value, **given)
    assert torch.equal(scaled_dot_product_attention(query, key, value, **given), without)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_a_model_drops_the_fast_way_and_no_other(implementation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.model("bert", attn_implementation=implementation).train()
    inputs = tiny.inputs("bert")
    drawn: list[tuple[int, ...]] = []
    mask = module._mask
    monkeypatch.setattr(module, "_mask", lambda like, threshold: drawn.append(like.shape) or mask(like, threshold))
    model(**inputs)
    assert not drawn, "outside of the context nothing is changed"
    bernoulli = torch.profiler.profile()
    with fast_dropout(), bernoulli:
        model(**inputs)
    layers = model.config.num_hidden_layers
    assert len(drawn) == 1 + 3 * layers, "the embeddings, and attention, its output and the feed-forward of each layer"
    assert not any(event.key == "aten::bernoulli_" for event in bernoulli.key_averages())
    with fast_dropout():
        evaluated = model.eval()(**inputs).last_hidden_state
    assert torch.equal(evaluated, model(**inputs).last_hidden_state)


def test_threads_share_it_and_the_last_gives_it_back() -> None:
    before = F.dropout, F.scaled_dot_product_attention
    first, second = fast_dropout(), fast_dropout()
    with contextlib.suppress(KeyError), first:
        second.__enter__()
        raise KeyError
    assert F.dropout is dropout and F.scaled_dot_product_attention is scaled_dot_product_attention
    second.__exit__(None, None, None)
    assert (F.dropout, F.scaled_dot_product_attention) == before


def test_checkpointed_layers_drop_the_same_again() -> None:
    def gradients(checkpointing: bool) -> list[Tensor]:
        model = tiny.model("bert").train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        torch.manual_seed(0)
        with fast_dropout():
            model(**tiny.inputs("bert")).last_hidden_state.square().sum().backward()
        return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]

    for one, other in zip(gradients(False), gradients(True), strict=True):
        torch.testing.assert_close(one, other)


def test_bf16_by_autocast() -> None:
    model = tiny.model("bert").train()
    torch.manual_seed(0)
    with fast_dropout():
        expected = model(**tiny.inputs("bert")).last_hidden_state
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16):
            found = model(**tiny.inputs("bert")).last_hidden_state
    torch.testing.assert_close(found.float(), expected, atol=0.1, rtol=0.1)
