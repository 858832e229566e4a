"""Generation with a static cache gives what it gives with one that grows."""

from typing import Any

import pytest
import torch

import adapterhub
import tiny
from adapterhub.composition import Average, BatchSplit, Fuse, Parallel, Rows, Split, Stack

METHODS = {
    "a": "seq_bn[reduction_factor=4]",
    "c": "lora[r=4]",
    "i": "seq_bn_inv[reduction_factor=4]",
    "l": "loreft[r=2,prefix_positions=2,suffix_positions=2]",
    "p": "prefix_tuning[prefix_length=3]",
}
SETUPS: tuple[Any, ...] = (
    *METHODS,
    Stack("c", "a", "p"),
    Average("a", "c"),
    Fuse("a", "c"),
    Rows(["a", "p", None, "l"]),
    BatchSplit("a", "c", batch_sizes=[1, 3]),
    Parallel("a", "p"),
    Split("a", "c", splits=5),
)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize(
    ("family", "kind"), [("llama", "ForCausalLM"), ("gpt2", "LMHeadModel"), ("t5", "ForConditionalGeneration")]
)
def test_the_same_tokens_and_scores(family: str, kind: str, beams: int) -> None:
    model = adapterhub.init(tiny.model(family, kind))
    model.generation_config.eos_token_id = None
    tiny.with_adapters(model, METHODS, Fuse("a", "c"), std=0.3)
    inputs = tiny.inputs(family, batch=4)
    mask = inputs["attention_mask"].flip(1)  # padded in front, as decoders are
    options = {"max_new_tokens": 4, "do_sample": False, "num_beams": beams, "pad_token_id": 0}
    options |= {"return_dict_in_generate": True, "output_scores": True, "attention_mask": mask}
    for setup in SETUPS:
        model.set_active_adapters(setup)
        wanted = model.generate(inputs["input_ids"], **options)
        got = model.generate(inputs["input_ids"], cache_implementation="static", **options)
        assert torch.equal(got.sequences, wanted.sequences), setup
        for one, other in zip(got.scores, wanted.scores, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
