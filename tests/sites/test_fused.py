"""Queries, keys and values in one weight: found where the modelling code splits them."""

import pytest
import torch
from transformers import (
    BloomConfig,
    BloomModel,
    FalconConfig,
    FalconModel,
    GPTBigCodeConfig,
    GPTBigCodeModel,
    GPTNeoXConfig,
    GPTNeoXModel,
    PreTrainedModel,
)

import tiny
from adapterhub.sites import discover
from adapterhub.sites.fused import fused_rows

SMALL = {"vocab_size": 60, "hidden_size": 16}


def rows(model: PreTrainedModel) -> list[dict[str, list[int]]]:
    return [
        {role: found.tolist() for role, found in fused_rows(model, sublayer, projection).items()}
        for sublayer in discover(model).sublayers
        for projection in sublayer.projections
        if projection.role == "qkv"
    ]


def blocks(q: int, k: int, v: int, groups: int = 1) -> dict[str, list[int]]:
    """Outputs in ``groups`` runs of q queries, k keys and v values each."""
    marks = torch.tensor(([0] * q + [1] * k + [2] * v) * groups)
    return {role: (marks == index).nonzero().flatten().tolist() for index, role in enumerate("qkv")}


@pytest.mark.parametrize(
    ("family", "wanted"),
    [
        ("gpt2", blocks(32, 32, 32)),
        ("modernbert", blocks(32, 32, 32)),
        ("phi3", blocks(32, 16, 16)),  # fewer keys and values than queries
        ("deberta", blocks(8, 8, 8, groups=4)),  # head by head, with positions in the attention
    ],
)
def test_families(family: str, wanted: dict[str, list[int]]) -> None:
    model = tiny.model(family).train()
    state = torch.get_rng_state()
    found = rows(model)
    assert len(found) == 2 and all(one == wanted for one in found)
    assert torch.equal(torch.get_rng_state(), state) and all(module.training for module in model.modules())


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        (
            lambda: GPTNeoXModel(
                GPTNeoXConfig(**SMALL, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
            ),
            blocks(8, 8, 8, groups=2),
        ),
        (lambda: BloomModel(BloomConfig(**SMALL, n_layer=1, n_head=2)), blocks(8, 8, 8, groups=2)),
        (
            lambda: FalconModel(
                FalconConfig(
                    **SMALL,
                    num_hidden_layers=1,
                    num_attention_heads=4,
                    num_kv_heads=2,
                    new_decoder_architecture=True,
                )
            ),
            blocks(8, 4, 4, groups=2),
        ),
        (
            lambda: GPTBigCodeModel(GPTBigCodeConfig(vocab_size=60, n_embd=16, n_layer=1, n_head=4, n_inner=32)),
            blocks(16, 4, 4),
        ),
    ],
    ids=["gpt-neox", "bloom", "falcon", "gpt-bigcode"],
)
def test_other_layouts(model: object, wanted: dict[str, list[int]]) -> None:
    assert rows(model()) == [wanted]  # type: ignore[operator]
