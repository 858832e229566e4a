"""Invertible adapters: the equations, the inverse, and where it acts in a model."""

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import adapterhub
import tiny
from adapterhub import AdapterSetup, Average, BatchSplit, Parallel, Rows, Stack
from adapterhub.errors import CompositionError, ConfigError
from adapterhub.methods import load_config
from adapterhub.methods.invertible import BLOCKS, GLOW, NICE

LM = {"bert": "ForMaskedLM", "roberta": "ForMaskedLM", "albert": "ForMaskedLM", "electra": "ForMaskedLM",
      "gpt2": "LMHeadModel", "llama": "ForCausalLM", "t5": "ForConditionalGeneration",
      "bart": "ForConditionalGeneration", "gemma2": "ForCausalLM", "modernbert": "ForMaskedLM"}  # fmt: skip


def block(kind: str, width: int = 9, std: float = 0.4) -> Any:
    made = BLOCKS[kind](width, "relu", 2)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return made


@given(st.sampled_from(["nice", "glow"]), st.integers(2, 12), st.sampled_from([torch.float32, torch.bfloat16]))
def test_the_inverse_is_exact_under_autocast_too(kind: str, width: int, autocast: torch.dtype) -> None:
    made, states = block(kind, width), torch.randn(2, 3, width)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast == torch.bfloat16):
        there = made(states)
        torch.testing.assert_close(made.inverse(there), states, rtol=1e-4, atol=1e-4)
    assert there.dtype == torch.float32 and not torch.allclose(there, states)


def test_nice_by_hand() -> None:
    made, states = block("nice"), torch.randn(2, 3, 9)
    assert isinstance(made, NICE)
    first, second = states[..., :4], states[..., 4:]
    y1 = first + made.F[2](torch.relu(made.F[0](second)))
    y2 = second + made.G[2](torch.relu(made.G[0](y1)))
    torch.testing.assert_close(made(states), torch.cat((y1, y2), -1))


def test_glow_by_hand() -> None:
    made, states = block("glow"), torch.randn(2, 3, 9)
    assert isinstance(made, GLOW)
    first, second = states[..., :4], states[..., 4:]

    def factor(s: Tensor) -> Tensor:
        return torch.exp(5 * 0.636 * torch.atan(s / 5))

    both = made.s2[2](torch.relu(made.s2[0](second)))
    y1 = factor(both[..., :4]) * first + both[..., 4:]
    both = made.s1[2](torch.relu(made.s1[0](y1)))
    y2 = factor(both[..., :5]) * second + both[..., 5:]
    torch.testing.assert_close(made(states), torch.cat((y1, y2), -1))


def model(family: str, **changes: Any) -> Any:
    made: Any = adapterhub.init(tiny.model(family, LM[family], **changes))
    for name in "ab":
        made.add_adapter(name, config="seq_bn_inv[reduction_factor=4]")
        for parameter in made.adapters[name].at("embeddings").parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return made.double().eval()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", LM)
def test_acts_before_the_first_layer_and_is_undone_before_tied_output_embeddings(family: str, tied: bool) -> None:
    made = model(family, tie_word_embeddings=tied)
    inputs = tiny.inputs(family)
    calls: list[str] = []
    part = made.adapters["a"].at("embeddings")
    forward, inverse = part.forward, part.inverse
    part.forward = lambda hidden: calls.append("forward") or forward(hidden)
    part.inverse = lambda hidden: calls.append("inverse") or inverse(hidden)
    made.set_active_adapters("a")
    with torch.no_grad():
        found = made(**inputs).logits
    output = made.get_output_embeddings()
    is_tied = output.weight is made.get_input_embeddings().weight
    assert calls == ["forward"] + ["inverse"] * is_tied
    # By hand: hooks of our own on a model whose adapters leave the embeddings alone.
    del part.forward, part.inverse
    by_hand = copy.deepcopy(made)
    kept = by_hand.adapters["a"].at("embeddings")
    by_hand.set_active_adapters(None)
    by_hand.add_adapter("c", config="seq_bn[reduction_factor=4]")
    by_hand.double()
    own = by_hand.adapters["a"].state_dict()
    by_hand.adapters["c"].load_state_dict({key: value for key, value in own.items() if "embeddings" not in key})
    by_hand.set_active_adapters("c")
    site = by_hand.sites.embeddings
    module = by_hand.get_submodule(site.path)
    if site.reads:
        module.register_forward_pre_hook(lambda module, args: (kept(args[0]), *args[1:]))
    else:
        module.register_forward_hook(lambda module, args, output: kept(output))
    if is_tied:
        by_hand.get_output_embeddings().register_forward_pre_hook(lambda module, args: (kept.inverse(args[0]),))
    with torch.no_grad():
        torch.testing.assert_close(found, by_hand(**inputs).logits)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_a_mixed_batch_is_right_row_by_row(family: str) -> None:
    made, inputs = model(family), tiny.inputs(family, batch=4)
    rows: list[Any] = ["a", None, Stack("a", "b"), "b"]
    for setup in (Rows(rows), BatchSplit("a", "b", batch_sizes=[1, 3])):
        with torch.no_grad(), AdapterSetup(setup):
            together = made(**inputs).logits
        for row in range(4):
            own = rows[row] if isinstance(setup, Rows) else "ab"[row > 0]
            with torch.no_grad(), AdapterSetup(own):
                alone = made(**{name: value[row : row + 1] for name, value in inputs.items()}).logits
            torch.testing.assert_close(together[row : row + 1], alone)


@pytest.mark.parametrize("setup", [Parallel("a", "b"), BatchSplit("a", "b", batch_sizes=[1, 3])])
def test_flexible_heads_undo_it_for_their_own_rows(setup: Any) -> None:
    made: Any = adapterhub.AutoAdapterModel.from_config(tiny.config("bert"))
    for name in "ab":
        made.add_adapter(name, config="seq_bn_inv[inv_adapter=glow]")
        made.add_masked_lm_head(name)
    for parameter in made.adapters.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    made.double().eval()
    inputs = tiny.inputs("bert", batch=4)
    made.set_active_adapters(setup)
    with torch.no_grad():
        outputs = made(**inputs).head_outputs
        for name, found, rows in zip("ab", outputs, [slice(0, 1), slice(1, 4)], strict=True):
            own = slice(None) if isinstance(setup, Parallel) else rows
            with AdapterSetup(name):
                alone = made(**{key: value[own] for key, value in inputs.items()}).logits
            torch.testing.assert_close(found.logits, alone)


def test_what_has_no_inverse_says_so() -> None:
    made = model("bert")
    with torch.no_grad(), AdapterSetup(Average("a", "b")):
        assert made.bert(**tiny.inputs("bert")).last_hidden_state is not None  # there is nothing to undo
        with pytest.raises(CompositionError, match=r"a, b.*inverted"):
            made(**tiny.inputs("bert"))


def test_encoder_decoders_have_it_in_the_encoder() -> None:
    assert model("t5").sites.embeddings.path == "encoder.block.0"
    assert adapterhub.init(tiny.model("vit")).sites.embeddings is None


@pytest.mark.parametrize("options", ["inv_adapter=flow", "inv_adapter_reduction_factor=0"])
def test_values_out_of_range_are_refused(options: str) -> None:
    with pytest.raises(ConfigError):
        load_config(f"seq_bn_inv[{options}]")
