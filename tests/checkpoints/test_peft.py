"""Checkpoints that PEFT 0.21.2 wrote: read, they compute what PEFT computed; what cannot be read is said."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, GPT2LMHeadModel, PreTrainedModel

import adapterhub
import goldens
from adapterhub.errors import (
    AdapterExistsError,
    CheckpointError,
    CheckpointNotFoundError,
    CorruptCheckpointError,
    HeadError,
    MergeError,
    TensorMismatchError,
)
from goldens import classifier

FOLDER = goldens.PEFT
READ = sorted(path.name for path in FOLDER.iterdir())
HEADED = ("everything", "some_norms")  # those that bring a trained head


def altered(label: str, to: Path, **changes: Any) -> Path:
    """A copy of a checkpoint with other options."""
    shutil.copytree(FOLDER / label, to)
    path = to / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return to


@pytest.mark.parametrize("label", READ)
def test_it_computes_what_peft_computed(label: str) -> None:
    model, inputs, expected = classifier(label)
    with torch.no_grad():
        bare = model(**inputs).logits
        name = model.load_adapter(FOLDER / label, set_active=True, allow_pickle=True)
        assert name == label and (expected - bare).abs().max() > 0.04
        torch.testing.assert_close(model(**inputs).logits, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("label", [label for label in READ if label not in HEADED])
def test_it_is_saved_and_loaded_as_our_own(label: str, tmp_path: Path) -> None:
    model, inputs, expected = classifier(label)
    model.load_adapter(FOLDER / label, allow_pickle=True)
    model.save_adapter(tmp_path, label)
    again, _, _ = classifier(label)
    again.load_adapter(tmp_path, set_active=True)
    with torch.no_grad():
        torch.testing.assert_close(again(**inputs).logits, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("label", sorted(path.name for path in goldens.SEQ2SEQ.iterdir()))
def test_of_an_encoder_decoder_it_is_the_prompt_of_the_encoder(label: str, tmp_path: Path) -> None:
    """PEFT keeps as many vectors for the decoder, and reads them nowhere: be they what they may, it gives the same."""
    model, inputs, expected = goldens.seq2seq(label)
    source = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    beams = {"max_new_tokens": 5, "num_beams": 2, "do_sample": False, "eos_token_id": 59}
    with torch.no_grad():
        assert (model(**inputs).logits - expected["output"]).abs().max() > 0.04
        model.load_adapter(goldens.SEQ2SEQ / label, load_as="theirs", set_active=True)
        torch.testing.assert_close(model(**inputs).logits, expected["output"], rtol=0, atol=1e-5)
        assert model.generate(**source, **beams).tolist() == expected["generated"].tolist()
        model.save_adapter(tmp_path / "out", "theirs", format="peft")
        model.load_adapter(tmp_path / "out", load_as="again", set_active=True)
        torch.testing.assert_close(model(**inputs).logits, expected["output"], rtol=0, atol=1e-5)
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["task_type"] == "SEQ_2_SEQ_LM" and config["num_virtual_tokens"] == 3


@pytest.mark.parametrize("label", ["plain", "patterns", "pissa"])
def test_the_model_need_not_have_the_head_that_it_was_trained_with(label: str) -> None:
    whole, inputs, expected = classifier(label)
    model: PreTrainedModel = adapterhub.init(whole.bert)
    model.load_adapter(FOLDER / label, set_active=True)
    with torch.no_grad():
        logits = whole.classifier(model(**inputs).pooler_output)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)


def test_paths_of_a_bare_model_fit_one_with_a_head(tmp_path: Path) -> None:
    folder = altered("plain", tmp_path / "bare")
    tensors = load_file(folder / "adapter_model.safetensors")
    save_file(
        {key.replace(".bert.", "."): value for key, value in tensors.items()}, folder / "adapter_model.safetensors"
    )
    model, inputs, expected = classifier("plain")
    model.load_adapter(folder, set_active=True)
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).logits, expected, rtol=0, atol=1e-5)


def test_patterns_are_of_the_paths_in_the_model_that_was_trained(tmp_path: Path) -> None:
    """A path with the prefix that a head gives it scales alike where there is no head."""
    folder = altered("plain", tmp_path / "a", alpha_pattern={"bert.encoder.layer.0.attention.self.query": 12})
    whole, inputs, expected = classifier("plain")
    bare = adapterhub.init(classifier("plain")[0].bert)
    whole.load_adapter(folder, set_active=True)
    bare.load_adapter(folder, set_active=True)
    with torch.no_grad():
        logits = whole(**inputs).logits
        assert (logits - expected).abs().max() > 1e-3
        torch.testing.assert_close(whole.classifier(bare(**inputs).pooler_output), logits)


def test_names_say_where_it_acts_as_long_as_they_mean_the_same() -> None:
    model, _, _ = classifier("plain")
    model.load_adapter(FOLDER / "plain")
    assert model.adapters["plain"].config.target_modules == ("query", "value")
    model.load_adapter(FOLDER / "patterns")
    config = model.adapters["patterns"].config
    assert config.target_modules == ("output.dense", "query", "value") and config.r == 3
    assert sorted(config.rank_pattern.values()) == [2, 2, 5]


def test_layers_can_be_left_out_and_names_given() -> None:
    model, _, _ = classifier("plain")
    model.load_adapter(FOLDER / "plain")
    model.load_adapter(FOLDER / "plain", load_as="other", leave_out=[0])
    whole, rest = (dict(model.adapters[name].named_parameters()) for name in ("plain", "other"))
    assert rest.keys() == {name for name in whole if name.startswith("layers.1.")}
    assert all(torch.equal(whole[name], rest[name]) for name in rest)
    with pytest.raises(AdapterExistsError):
        model.load_adapter(FOLDER / "plain", load_as="other")


def test_not_into_a_base_model_that_holds_a_merged_one() -> None:
    model, _, _ = classifier("plain")
    model.load_adapter(FOLDER / "plain")
    model.merge_adapter("plain")
    with pytest.raises(MergeError, match="reset_adapter"):
        model.load_adapter(FOLDER / "plain", load_as="again")


def test_a_trained_head_needs_its_place() -> None:
    whole, _, _ = classifier("everything")
    model = adapterhub.init(whole.bert)
    with pytest.raises(HeadError, match=r"classifier\.(bias|weight).*with_head=False"):
        model.load_adapter(FOLDER / "everything")
    assert not list(model.adapters)
    model.load_adapter(FOLDER / "everything", with_head=False)


@pytest.mark.parametrize(
    ("label", "changes", "said"),
    [
        ("plain", {"init_lora_weights": "loftq"}, "init_lora_weights='loftq', which changes the base model"),
        ("vera", {"bias": "all"}, "changes biases of the base model"),
        ("plain", {"use_qalora": True}, "uses use_qalora"),
        ("plain", {"peft_type": "OFT"}, "type OFT; LORA, IA3, VERA"),
    ],
)
def test_what_has_no_equal_is_refused(label: str, changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    model, _, _ = classifier(label)
    with pytest.raises(CheckpointError, match=said):
        model.load_adapter(altered(label, tmp_path / "a", **changes))
    assert not list(model.adapters)


def test_files_that_are_missing_torn_or_for_another_model(tmp_path: Path) -> None:
    model, _, _ = classifier("plain")
    folder = altered("plain", tmp_path / "a")
    weights = folder / "adapter_model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-40])
    with pytest.raises(CorruptCheckpointError, match="not a whole safetensors file"):
        model.load_adapter(folder)
    weights.rename(folder / "adapter_model.bin")
    with pytest.raises(CheckpointNotFoundError, match="allow_pickle=True"):
        model.load_adapter(folder)
    save_file({"base_model.model.classifier.weight": torch.zeros(2, 2)}, weights)
    with pytest.raises(CorruptCheckpointError, match="no tensor of LORA"):
        model.load_adapter(folder)
    other = adapterhub.init(
        BertModel(BertConfig(**goldens.base("bert")[0].config.to_diff_dict() | {"num_hidden_layers": 1}))
    )
    with pytest.raises(TensorMismatchError, match="adapts modules that this model has not"):
        other.load_adapter(FOLDER / "plain")
    wide = adapterhub.init(BertModel(BertConfig(**goldens.base("bert")[0].config.to_diff_dict() | {"hidden_size": 20})))
    with pytest.raises(TensorMismatchError, match="of another shape"):
        wide.load_adapter(FOLDER / "plain")
    assert not list(model.adapters) and not list(other.adapters) and not list(wide.adapters)


def test_values_of_the_base_model_that_were_saved_beside(tmp_path: Path) -> None:
    """PEFT saves embeddings that it thinks changed: the same ones are passed over, others never written."""
    folder = altered("plain", tmp_path / "a")
    model, _, _ = classifier("plain")
    tensors = load_file(folder / "adapter_model.safetensors")
    key = "base_model.model.bert.embeddings.word_embeddings.base_layer.weight"
    tensors[key] = model.bert.embeddings.word_embeddings.weight.detach().clone()
    save_file(tensors, folder / "adapter_model.safetensors")
    model.load_adapter(folder, load_as="same")
    tensors[key][3] += 1
    save_file(tensors, folder / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match="other values of the base model itself"):
        model.load_adapter(folder, load_as="other")
    model.load_adapter(folder, load_as="other", with_head=False)


def test_trained_tokens_change_tied_output_embeddings_too(tmp_path: Path) -> None:
    bare, inputs, _ = goldens.base("gpt2")
    model: Any = adapterhub.init(GPT2LMHeadModel(bare.config).eval())
    model.transformer.load_state_dict(bare.state_dict())
    values = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))
    tokens, delta = [5, 7], "transformer.wte.token_adapter.trainable_tokens_delta"
    tensors = {f"base_model.model.transformer.h.0.attn.c_attn.lora_{one}.weight": torch.zeros(shape)
               for one, shape in (("A", (2, 16)), ("B", (48, 2)))}  # fmt: skip
    save_file(tensors | {f"base_model.model.{delta}": values}, tmp_path / "adapter_model.safetensors")
    options = {"peft_type": "LORA", "r": 2, "target_modules": ["c_attn"], "layers_to_transform": [0]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(options | {"trainable_token_indices": {"wte": tokens}}))
    model.load_adapter(tmp_path, load_as="a", set_active=True)
    with torch.no_grad():
        result = model(**inputs).logits
        model.active_adapters = None
        model.transformer.wte.weight[tokens] = values
        torch.testing.assert_close(result, model(**inputs).logits)
