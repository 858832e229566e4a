from types import SimpleNamespace

import pytest
import torch
from transformers.utils import ModelOutput

import flexible
import tiny
from adapterhub.errors import HeadError
from adapterhub.heads.base import HeadContext
from adapterhub.heads.pooling import pool

HIDDEN = torch.arange(3 * 4 * 2.0).view(3, 4, 2)


def context(hidden=HIDDEN, given=None, read=None, eos=9, **outputs):
    base = SimpleNamespace(config=SimpleNamespace(eos_token_id=eos))
    read = given or {} if read is None else read
    return HeadContext(base, ModelOutput(last_hidden_state=hidden, **outputs), given or {}, read, {})


def at(*positions):
    return HIDDEN[torch.arange(3), torch.tensor(positions)]


def test_first_and_mean():
    assert torch.equal(pool(context(), "first"), at(0, 0, 0))
    assert torch.equal(pool(context(), "mean"), HIDDEN.mean(1))
    mask = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]])
    expected = torch.stack([HIDDEN[0, 0], HIDDEN[1, :2].mean(0), torch.zeros(2)])
    assert torch.equal(pool(context(given={"attention_mask": mask}), "mean"), expected)


@pytest.mark.parametrize("dtype", [torch.long, torch.bool, torch.float])
def test_last_token_on_either_side_of_padding(dtype):
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 1, 1, 1]], dtype=dtype)
    assert torch.equal(pool(context(given={"attention_mask": mask}), "last"), at(3, 1, 3))
    assert torch.equal(pool(context(), "last"), at(3, 3, 3))


def test_last_token_of_what_is_not_cached():
    mask = torch.tensor([[1] * 6, [0] + [1] * 5, [1] * 4 + [0] * 2])
    assert torch.equal(pool(context(given={"attention_mask": mask}), "last"), at(3, 3, 1))


def test_end_of_the_decoder_input():
    ids = torch.tensor([[9, 3, 9, 0], [9, 3, 4, 5], [9, 9, 3, 9]])
    assert torch.equal(pool(context(given={"decoder_input_ids": ids}), "eos"), at(2, 3, 3))
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 1]])
    given = {"decoder_input_ids": ids, "decoder_attention_mask": mask}
    assert torch.equal(pool(context(given=given), "eos"), at(2, 1, 3))
    assert torch.equal(pool(context(given={"decoder_input_ids": ids}, eos=[4, 9]), "eos"), at(2, 2, 3))


def test_end_of_the_input_where_the_decoder_reads_it():
    given = {"input_ids": torch.tensor([[3, 4, 5, 9], [3, 9, 1, 1], [3, 4, 5, 6]])}
    read = given | {"decoder_input_ids": torch.tensor([[9, 3, 4, 5], [9, 3, 9, 1], [9, 3, 4, 5]])}
    assert torch.equal(pool(context(given=given, read=read), "eos"), at(3, 1, 3))


def test_pooler_and_feature_maps():
    pooled = torch.randn(3, 2, 1, 1)
    assert torch.equal(pool(context(pooler_output=pooled), "first", use_pooler=True), pooled[..., 0, 0])
    with pytest.raises(HeadError, match="use_pooler=False"):
        pool(context(), "first", use_pooler=True)
    maps = torch.randn(3, 2, 5, 4)
    torch.testing.assert_close(pool(context(maps), "mean"), maps.mean((2, 3)))


@pytest.mark.parametrize("family", tiny.DECODERS)
def test_padding_does_not_change_what_a_decoder_says(family):
    model = flexible.make(family)
    model.add_classification_head("h")
    text = torch.randint(3, 90, (1, 5), generator=torch.Generator().manual_seed(0))
    alone = model(text).logits
    padding, ones = torch.zeros(1, 2, dtype=torch.long), torch.ones(1, 5, dtype=torch.long)
    for order in (1, -1):
        ids = torch.cat((text, padding)[::order], 1)
        mask = torch.cat((ones, padding)[::order], 1)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        torch.testing.assert_close(
            model(ids, attention_mask=mask, position_ids=positions).logits, alone, atol=1e-6, rtol=0
        )


@pytest.mark.parametrize("family", ["bart", "t5"])
def test_padding_does_not_change_what_an_encoder_decoder_says(family):
    model = flexible.make(family)
    model.add_classification_head("h")
    config = model.config
    text = torch.tensor([[5, 6, 7, 8, config.eos_token_id]])
    ids = torch.cat((text, torch.full((1, 3), config.pad_token_id)), 1)
    mask = (torch.arange(8) < 5).long().unsqueeze(0)
    torch.testing.assert_close(model(ids, attention_mask=mask).logits, model(text).logits, atol=1e-6, rtol=0)
