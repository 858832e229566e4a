import pytest
import torch
from transformers.models.bart.modeling_bart import shift_tokens_right as bart_shift
from transformers.models.mbart.modeling_mbart import shift_tokens_right as mbart_shift

import flexible
import tiny
from adapterhub.errors import HeadError
from adapterhub.heads.vocabulary import shift_right


def test_holds_no_vocabulary_matrix():
    for family, add in [("bert", "masked_lm"), ("albert", "masked_lm"), ("gpt2", "causal_lm"), ("t5", "seq2seq_lm")]:
        model = flexible.make(family)
        getattr(model, f"add_{add}_head")("h")
        assert not any(value.dim() == 2 and 99 in value.shape for value in model.heads["h"].state_dict().values())


def test_follows_the_embeddings():
    model = flexible.make("gpt2")
    model.add_causal_lm_head("h", layers=1, bias=False)
    model.wte.weight.data.normal_()
    hidden = model(**tiny.inputs("gpt2"), output_hidden_states=True).hidden_states[-1]
    torch.testing.assert_close(model(**tiny.inputs("gpt2")).logits, hidden @ model.wte.weight.T)


@pytest.mark.parametrize("size", [120, 90])
def test_follows_a_change_of_the_vocabulary(size):
    model = flexible.make("bert")
    model.add_masked_lm_head("h")
    model.heads["h"].bias.data.normal_()
    inputs = tiny.inputs("bert")
    inputs["input_ids"].clamp_(max=80)
    before = model(**inputs).logits
    model.resize_token_embeddings(size)
    after = model(**inputs, labels=inputs["input_ids"])
    assert after.logits.shape == (3, 7, size) and after.loss.isfinite()
    kept = min(size, 99)
    torch.testing.assert_close(after.logits[..., :kept], before[..., :kept])
    bias = model.heads["h"].bias
    assert bias.requires_grad and not bias[99:].any()
    model.resize_token_embeddings(size)
    assert model.heads["h"].bias is bias  # an optimiser may hold it


def test_each_model_starts_its_decoder_in_its_own_way():
    ids = torch.tensor([[5, 6, 7, 2], [5, 2, 1, -100]])
    assert shift_right(flexible.make("bart"), ids).equal(bart_shift(ids, 1, 2))
    assert shift_right(flexible.make("mbart"), ids).equal(mbart_shift(ids, 1))
    assert shift_right(flexible.make("t5"), ids).tolist() == [[0, 5, 6, 7], [0, 5, 2, 1]]
    with pytest.raises(HeadError, match="decoder_input_ids"):
        model = flexible.make("bert")
        model.config.decoder_start_token_id = 2
        shift_right(model, ids)


def test_a_model_without_words_says_so():
    with pytest.raises(HeadError, match="word embeddings"):
        flexible.make("vit").add_masked_lm_head("h")
    with pytest.raises(HeadError, match="at least one layer"):
        flexible.make("bert").add_masked_lm_head("h", layers=0)
