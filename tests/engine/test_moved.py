"""Prefixes that move the positions of the text: as if the positions were given, row by row, in generation too."""

from typing import Any

import pytest
import torch

import adapterhub
import goldens
import tiny
from adapterhub.composition import Parallel, Rows, Stack
from adapterhub.errors import CompositionError

LENGTH = 3


def moved(kind: str, length: int = LENGTH) -> tuple[Any, dict[str, torch.Tensor]]:
    """A model with a prefix that moves positions (``a``), and one that is the same and does not (``b``)."""
    bare, inputs, _ = goldens.base(kind)
    model: Any = adapterhub.init(bare)
    config = adapterhub.PrefixTuningConfig(flat=True, prefix_length=length, init_weights_seed=1)
    model.add_adapter("a", config=config.replace(shift_positions=True))
    model.add_adapter("b", config=config)
    return model, inputs


@pytest.mark.parametrize("kind", ["gpt2", "llama", "bert"])
@torch.no_grad()
def test_as_if_positions_were_given(kind: str) -> None:
    model, inputs = moved(kind)
    rows, length = inputs["input_ids"].shape
    positions = torch.arange(length).expand(rows, -1)
    model.active_adapters = "b"
    still = model(**inputs).last_hidden_state
    wanted = model(**inputs, position_ids=positions + LENGTH).last_hidden_state
    model.active_adapters = "a"
    torch.testing.assert_close(model(**inputs).last_hidden_state, wanted)
    torch.testing.assert_close(model(**inputs, position_ids=positions).last_hidden_state, wanted)
    ids = inputs.pop("input_ids")
    torch.testing.assert_close(model(ids, **inputs).last_hidden_state, wanted)
    assert (wanted - still).abs().max() > 1e-3
    model.active_adapters = None
    assert not model.base_model._forward_pre_hooks


@torch.no_grad()
def test_every_row_by_its_own_prefix() -> None:
    model, inputs = moved("gpt2")
    whole = {}
    for name in ("a", "b", None):
        model.active_adapters = name
        whole[name] = model(**inputs).last_hidden_state
    model.active_adapters = Rows(["b", "a", None])
    result = model(**inputs).last_hidden_state
    for row, name in enumerate(("b", "a", None)):
        torch.testing.assert_close(result[row], whole[name][row])
    model.active_adapters = Stack("a", "b")
    both = model(**inputs).last_hidden_state
    model.delete_adapter("a")
    model.active_adapters = "b"
    assert (both - whole["a"]).abs().max() > 1e-3


@torch.no_grad()
def test_generation_with_a_cache_is_as_without() -> None:
    model: Any = adapterhub.init(tiny.model("gpt2", "LMHeadModel").eval())
    config = adapterhub.PrefixTuningConfig(flat=True, prefix_length=LENGTH, shift_positions=True, init_weights_seed=1)
    model.add_adapter("a", config=config, set_active=True)
    ids = torch.randint(3, model.config.vocab_size, (2, 5), generator=torch.Generator().manual_seed(0))
    written = model.generate(ids, max_new_tokens=6, do_sample=False, pad_token_id=0, eos_token_id=None)
    for _ in range(6):
        ids = torch.cat((ids, model(input_ids=ids).logits[:, -1:].argmax(-1)), dim=1)
    assert torch.equal(written, ids)


def test_where_positions_cannot_be_moved() -> None:
    for kind in ("t5", "roberta"):
        model, _ = moved(kind)
        with pytest.raises(CompositionError, match="shift_positions"):
            model.active_adapters = "a"
        assert model.active_adapters is None
        model.active_adapters = "b"
    model, _ = moved("gpt2")
    with pytest.raises(CompositionError, match="BatchSplit or Rows"):
        model.active_adapters = Parallel("a", "b")
