"""Switchable embeddings: what is exchanged, what comes back, and what is kept."""

import copy
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

import adapterhub
import tiny
from adapterhub import AutoAdapterModel
from adapterhub.errors import (
    AdapterHubError,
    BaseModelMismatchError,
    CheckpointNotFoundError,
    CompositionError,
    ConfigError,
    CorruptCheckpointError,
    EmbeddingsError,
    MergeError,
    TensorMismatchError,
)
from tiny import randomise
from tokens import tokenizer

LANGUAGE_MODELS = (
    ("bert", "ForMaskedLM", {}),
    ("roberta", "ForMaskedLM", {}),
    ("distilbert", "ForMaskedLM", {}),
    ("electra", "ForMaskedLM", {}),
    ("gpt2", "LMHeadModel", {}),
    ("llama", "ForCausalLM", {}),
    ("phi", "ForCausalLM", {}),
    ("bart", "ForConditionalGeneration", {}),
    ("t5", "ForConditionalGeneration", {}),
    ("t5", "ForConditionalGeneration", {"tie_word_embeddings": False}),
)


class Words:
    """A tokenizer as far as embeddings ask: tokens ``w0`` ... by id, from some number on."""

    def __init__(self, first: int, last: int, pad_token_id: int | None = None) -> None:
        self.vocabulary = {f"w{number}": index for index, number in enumerate(range(first, last))}
        self.pad_token_id = pad_token_id

    def __len__(self) -> int:
        return len(self.vocabulary)

    def get_vocab(self) -> dict[str, int]:
        return self.vocabulary


OLD, NEW = Words(0, 99), Words(40, 150)  # 59 tokens in both


def state(model: PreTrainedModel) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


def text(family: str, ids: Tensor) -> dict[str, Tensor]:
    return {"input_ids": ids} | ({"decoder_input_ids": ids} if family in tiny.ENCODER_DECODERS else {})


@torch.no_grad()
def logits(model: Any, family: str, ids: Tensor) -> Tensor:
    return model(**text(family, ids)).logits


@pytest.mark.parametrize(("family", "kind", "changes"), LANGUAGE_MODELS)
def test_shared_tokens_score_as_they_did(family: str, kind: str, changes: dict[str, object]) -> None:
    """With rows copied, a text of shared tokens is read and scored as before: logits are those of the old ids."""
    model: Any = adapterhub.init(tiny.model(family, kind, **changes))
    before = state(model)
    own = torch.randint(40, 99, (2, 6), generator=torch.Generator().manual_seed(1))
    ids = own - 40
    old = logits(model, family, own)
    model.add_embeddings("new", NEW, reference_embedding="default", reference_tokenizer=OLD)
    new = logits(model, family, ids)
    assert new.shape[-1] == 110 == model.config.vocab_size == model.get_output_embeddings().out_features
    torch.testing.assert_close(new[..., :59], old[..., 40:])
    labelled = model(**text(family, ids), labels=ids)
    assert torch.isfinite(labelled.loss)

    model.set_active_embeddings("default")
    assert model.active_embeddings == "default" and model.config.vocab_size == 99
    after = state(model)
    assert same(before, {name: value for name, value in after.items() if not name.startswith("vocabularies.")})
    assert torch.equal(logits(model, family, own), old)
    model.delete_embeddings("new")
    assert same(before, state(model))


@pytest.mark.parametrize("family", ["bert", "gpt2", "bart", "t5", "albert"])
def test_heads_follow(family: str) -> None:
    model: Any = adapterhub.init(tiny.model(family))
    del model
    flexible: Any = AutoAdapterModel.from_config(tiny.config(family)).eval()
    kind = "masked_lm" if family in ("bert", "albert") else "causal_lm"
    if family in tiny.ENCODER_DECODERS:
        kind = "seq2seq_lm"
    flexible.add_custom_head(kind, "lm", bias=True)
    with torch.no_grad():
        flexible.heads["lm"].bias.normal_()
    before = state(flexible)
    own = torch.randint(40, 99, (2, 6), generator=torch.Generator().manual_seed(1))
    old = logits(flexible, family, own)
    flexible.add_embeddings("new", NEW, reference_embedding="default", reference_tokenizer=OLD)
    torch.testing.assert_close(logits(flexible, family, own - 40)[..., :59], old[..., 40:])
    assert flexible.heads["lm"].bias.shape == (110,)
    assert not flexible.heads["lm"].bias[59:].any()
    flexible.active_embeddings = "default"
    assert torch.equal(logits(flexible, family, own), old)
    flexible.delete_embeddings("new")
    assert same(before, state(flexible))


def test_head_of_a_checkpoint_follows(tmp_path: Path) -> None:
    tiny.model("bert", "ForMaskedLM").save_pretrained(tmp_path)
    model: Any = AutoAdapterModel.from_pretrained(tmp_path).eval()
    own = torch.arange(40, 50)[None]
    old = logits(model, "bert", own)
    model.add_embeddings("new", NEW, "default", OLD)
    torch.testing.assert_close(logits(model, "bert", own - 40)[..., :59], old[..., 40:])
    assert torch.isfinite(model(own - 40, labels=own - 40).loss)
    model.set_active_embeddings("default")
    assert torch.equal(logits(model, "bert", own), old)


def test_a_head_that_is_replaced_has_no_past() -> None:
    model: Any = AutoAdapterModel.from_config(tiny.config("bert"))
    model.add_masked_lm_head("lm")
    with torch.no_grad():
        model.heads["lm"].bias.fill_(1.0)
    model.add_embeddings("new", NEW)
    model.delete_head("lm")
    model.add_masked_lm_head("lm")
    model.set_active_embeddings("default")
    assert model.heads["lm"].bias.shape == (99,) and not model.heads["lm"].bias.any()
    model.set_active_embeddings("new")
    model.add_masked_lm_head("lm", overwrite_ok=True)
    model.set_active_embeddings("default")
    assert model.heads["lm"].bias.shape == (99,)


def test_the_module_stays() -> None:
    """Bart's table multiplies what it gives; a plain one in its place would not."""
    model: Any = adapterhub.init(tiny.model("mbart", scale_embedding=True))
    table = model.get_input_embeddings()
    model.add_embeddings("new", NEW)
    assert model.get_input_embeddings() is table
    ids = torch.tensor([[3, 109]])
    torch.testing.assert_close(table(ids), model.loaded_embeddings["new"].weight[ids] * 32**0.5)


def test_names_and_tables() -> None:
    model: Any = adapterhub.init(tiny.model("bert"))
    own = model.get_input_embeddings().weight
    assert list(model.loaded_embeddings) == ["default"] and model.active_embeddings == "default"
    model.add_embeddings("new", NEW)
    assert set(model.loaded_embeddings) == {"default", "new"}
    assert model.loaded_embeddings["default"].weight is own
    assert model.loaded_embeddings["default"].num_embeddings == 99
    assert model.loaded_embeddings["new"].weight is model.get_input_embeddings().weight
    assert 0.01 < model.get_input_embeddings().weight.std() < 0.03  # as the base model makes its own
    assert not model.get_input_embeddings().weight.requires_grad
    with torch.no_grad():
        model.loaded_embeddings["default"].weight[5] = 7.0
    model.delete_embeddings("new")
    assert model.active_embeddings == "default"
    assert (model.get_input_embeddings().weight[5] == 7).all()


def test_tokens_with_gaps_in_their_ids() -> None:
    model: Any = adapterhub.init(tiny.model("bert"))
    words = Words(0, 10)
    words.vocabulary["last"] = 40
    model.add_embeddings("gaps", words)
    assert model.config.vocab_size == 41


def test_moved_and_saved_with_the_model(tmp_path: Path) -> None:
    model: Any = adapterhub.init(tiny.model("bert", "ForMaskedLM"))
    model.add_embeddings("new", NEW)
    assert "vocabularies.default.weight" in model.state_dict()
    assert "vocabularies.default.cls/predictions/bias" in model.state_dict()
    model.to(torch.bfloat16)
    assert {one.weight.dtype for one in model.loaded_embeddings.values()} == {torch.bfloat16}


@pytest.mark.parametrize("active", ["default", "new"])
@pytest.mark.parametrize("kind", ["ForMaskedLM", "flexible"])
def test_round_trip_of_the_whole_model(kind: str, active: str, tmp_path: Path) -> None:
    if kind == "flexible":
        model: Any = AutoAdapterModel.from_config(tiny.config("bert")).eval()
        model.add_masked_lm_head("lm")
    else:
        model = adapterhub.init(tiny.model("bert", kind))
    model.add_adapter("a", set_active=True)
    model.add_embeddings("new", NEW, "default", OLD)
    model.add_embeddings("third", Words(0, 30, pad_token_id=3))
    ids = torch.tensor([[4, 7, 3]])
    expected = {}
    for name in ("third", "default", "new"):
        model.set_active_embeddings(name)
        expected[name] = logits(model, "bert", ids)
    model.set_active_embeddings(active)
    model.save_pretrained(tmp_path)
    loader: Any = AutoAdapterModel if kind == "flexible" else adapterhub.AutoModelForMaskedLM
    again = loader.from_pretrained(tmp_path).eval()
    again.set_active_adapters("a")
    if kind == "flexible":
        again.active_head = "lm"
    assert again.active_embeddings == active
    assert again.get_input_embeddings().padding_idx == model.get_input_embeddings().padding_idx
    assert set(again.loaded_embeddings) == {"default", "new", "third"}
    for name, logit in expected.items():
        again.set_active_embeddings(name)
        assert torch.equal(logits(again, "bert", ids), logit)
    again.set_active_embeddings("third")
    assert again.get_input_embeddings().padding_idx == 3


def test_saved_and_loaded_with_a_tokenizer(tmp_path: Path) -> None:
    words = tokenizer(tmp_path / "words")
    model: Any = adapterhub.init(tiny.model("bert", "ForMaskedLM"))
    model.add_embeddings("new", words)
    with torch.no_grad():
        model.get_output_embeddings().bias.normal_()
    ids = words(["a good film"], return_tensors="pt")["input_ids"]
    expected = logits(model, "bert", ids)
    model.save_embeddings(tmp_path / "saved", "new", words)
    assert json.loads((tmp_path / "saved" / "embeddings_config.json").read_text())["embeddings"]["weights"]["sha256"]

    fresh: Any = adapterhub.init(tiny.model("bert", "ForMaskedLM"))
    loaded = fresh.load_embeddings(tmp_path / "saved", "mine")
    assert loaded.get_vocab() == words.get_vocab()
    assert fresh.active_embeddings == "mine"
    assert torch.equal(logits(fresh, "bert", ids), expected)

    bare: Any = adapterhub.init(tiny.model("bert", "ForMaskedLM").bert)  # without a head: the table alone has a place
    bare.load_embeddings(tmp_path / "saved", "mine")
    assert torch.equal(bare.get_input_embeddings().weight, model.get_input_embeddings().weight)
    model.set_active_embeddings("default")
    model.save_embeddings(tmp_path / "without", "new")  # one that is not active
    assert fresh.load_embeddings(tmp_path / "without", "other") is None
    assert torch.equal(logits(fresh, "bert", ids), expected)


def test_the_pickle_of_adapters_is_read_when_asked(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.randn(20, 32))
    torch.save(weight, tmp_path / "embedding.pt")
    model: Any = adapterhub.init(tiny.model("bert"))
    with pytest.raises(CheckpointNotFoundError, match="allow_pickle"):
        model.load_embeddings(tmp_path, "old")
    assert model.load_embeddings(tmp_path, "old", allow_pickle=True) is None
    assert torch.equal(model.get_input_embeddings().weight, weight)
    (tmp_path / "embedding.pt").write_bytes(b"no pickle")
    with pytest.raises(CorruptCheckpointError):
        model.load_embeddings(tmp_path, "other", allow_pickle=True)


def test_embeddings_train_with_an_adapter() -> None:
    model: Any = adapterhub.init(tiny.model("bert", "ForMaskedLM"))
    model.add_adapter("a")
    model.add_embeddings("new", NEW)
    weight = model.get_input_embeddings().weight
    model.train_adapter("a", train_embeddings=True)
    assert weight.requires_grad
    assert not model.loaded_embeddings["default"].weight.requires_grad
    optimiser = torch.optim.SGD([one for one in model.parameters() if one.requires_grad], lr=1.0)
    before, base = weight.detach().clone(), model.loaded_embeddings["default"].weight.clone()
    ids = torch.tensor([[5, 6, 109]])
    model(ids, labels=ids).loss.backward()
    model.set_active_embeddings("default")  # moved, not copied: the optimiser still has it
    optimiser.step()
    model.set_active_embeddings("new")
    assert model.get_input_embeddings().weight is weight
    assert not torch.equal(weight, before)
    model.set_active_embeddings("default")
    assert torch.equal(model.get_input_embeddings().weight, base)
    model.freeze_embeddings(False)
    assert model.get_input_embeddings().weight.requires_grad
    model.freeze_embeddings()
    assert not model.get_output_embeddings().bias.requires_grad


def test_copies_have_their_own() -> None:
    model: Any = adapterhub.init(tiny.model("gpt2", "LMHeadModel"))
    model.add_embeddings("new", NEW)
    twin = copy.deepcopy(model)
    twin.set_active_embeddings("default")
    assert model.active_embeddings == "new" and model.config.vocab_size == 110
    assert twin.get_output_embeddings().weight is twin.get_input_embeddings().weight
    assert model.generate(torch.tensor([[3, 109]]), max_new_tokens=3, do_sample=False).shape == (1, 5)


def test_invertible_adapters_and_tied_heads_under_other_embeddings() -> None:
    model: Any = adapterhub.init(tiny.model("bert", "ForMaskedLM"))
    model.add_adapter("a", config="seq_bn_inv", set_active=True)
    randomise(model, "a", 0.1)
    own = torch.arange(40, 50)[None]
    old = logits(model, "bert", own)
    model.add_embeddings("new", NEW, "default", OLD)
    torch.testing.assert_close(logits(model, "bert", own - 40)[..., :59], old[..., 40:])


REFUSED = {
    "taken": (lambda model: model.add_embeddings("new", NEW), EmbeddingsError, "already"),
    "default": (lambda model: model.add_embeddings("default", NEW), EmbeddingsError, "already"),
    "bad name": (lambda model: model.add_embeddings("a.b", NEW), ConfigError, "a_b"),
    "width": (lambda model: model.add_embeddings("x", NEW, embedding_dim=16), EmbeddingsError, "32 wide"),
    "reference alone": (lambda model: model.add_embeddings("x", NEW, "default"), EmbeddingsError, "together"),
    "unknown reference": (lambda model: model.add_embeddings("x", NEW, "y", OLD), EmbeddingsError, "default, new"),
    "unknown": (lambda model: model.set_active_embeddings("y"), EmbeddingsError, "default, new"),
    "no default": (lambda model: model.delete_embeddings("default"), EmbeddingsError, "stay"),
    "delete unknown": (lambda model: model.delete_embeddings("y"), EmbeddingsError, "no embeddings"),
    "save unknown": (lambda model: model.save_embeddings("nowhere", "y"), EmbeddingsError, "no embeddings"),
    "nothing there": (lambda model: model.load_embeddings("nowhere", "x"), CheckpointNotFoundError, "nowhere"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_changes_nothing(case: str) -> None:
    call, error, words = REFUSED[case]
    model: Any = adapterhub.init(tiny.model("bert", "ForMaskedLM"))
    model.add_embeddings("new", NEW)
    model.set_active_embeddings("default")
    before = state(model)
    with pytest.raises(error, match=words) as raised:
        call(model)
    assert isinstance(raised.value, AdapterHubError)
    assert same(before, state(model)) and model.active_embeddings == "default"


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    model: Any = adapterhub.init(tiny.model("bert"))
    model.add_embeddings("new", NEW)
    model.save_embeddings(tmp_path, "new")
    other: Any = adapterhub.init(tiny.model("bert", seed=5))
    with pytest.raises(BaseModelMismatchError):
        other.load_embeddings(tmp_path, "new")
    other.load_embeddings(tmp_path, "new", allow_other_base=True)
    narrow: Any = adapterhub.init(tiny.model("bert", hidden_size=16))
    before = state(narrow)
    with pytest.raises(TensorMismatchError, match=r"\[\*, 16\]"):
        narrow.load_embeddings(tmp_path, "new", allow_other_base=True)
    assert same(before, state(narrow))
    file = next(tmp_path.glob("embeddings.*.safetensors"))
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(CorruptCheckpointError):
        model.load_embeddings(tmp_path, "again")


def test_adapters_that_are_fitted_to_the_table_stand_in_the_way() -> None:
    model: Any = adapterhub.init(tiny.model("bert"))
    model.add_adapter("a", config="lora[target_modules=[word_embeddings]]", set_active=True)
    with pytest.raises(EmbeddingsError, match="'a' is active"):
        model.add_embeddings("new", NEW)
    model.set_active_adapters(None)
    model.merge_adapter("a")
    with pytest.raises(MergeError):
        model.add_embeddings("new", NEW)
    model.reset_adapter()
    model.add_embeddings("new", NEW)
    with pytest.raises(CompositionError, match="99 tokens, and those in use are of 110"):
        model.set_active_adapters("a")
    with pytest.raises(CompositionError, match="99 tokens"), adapterhub.AdapterSetup("a"):
        model(**tiny.inputs("bert"))
    model.set_active_embeddings("default")
    model.set_active_adapters("a")


def test_another_padding_token_is_told(caplog: pytest.LogCaptureFixture) -> None:
    model: Any = adapterhub.init(tiny.model("roberta"))
    with caplog.at_level(logging.WARNING):
        model.add_embeddings("new", Words(0, 30, pad_token_id=0))
    assert "pads with token 0, and the base model takes 1" in caplog.text
    assert model.get_input_embeddings().padding_idx == 0
