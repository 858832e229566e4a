"""Heads of classes of transformers that ``adapters`` saved, in flexible models and in those classes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

import adapterhub
from adapterhub.errors import HeadError, LabelMismatchError, TensorMismatchError

STATIC = Path(__file__).parent / "static"
NAMES = ("BertForSequenceClassification", "RobertaForTokenClassification", "GPT2ForSequenceClassification")
KINDS = {"Bert": "bert", "Robe": "roberta", "GPT2": "gpt2"}


def base(name: str, architecture: str | None = None) -> tuple[Any, dict[str, torch.Tensor]]:
    """A model with the base model's weights: with flexible heads, or of a class of transformers."""
    saved = load_file(STATIC / name / "expected.safetensors")
    own = {key.removeprefix("base/"): value for key, value in saved.items() if key.startswith("base/")}
    options: dict[str, Any] = {
        "vocab_size": 30,
        "num_labels": len(saved["logits"][0].flatten()) if "Seq" in name else 3,
    }
    if name.startswith("GPT2"):
        options |= {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 20, "pad_token_id": 0}
    else:
        options |= {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 20}
        options |= {"max_position_embeddings": 20}
    config = transformers.AutoConfig.for_model(KINDS[name[:4]], **options)
    if architecture is None:
        model: Any = adapterhub.AutoAdapterModel.from_config(config)
    else:
        model = adapterhub.init(getattr(transformers, architecture)(config))
    inner = dict(model.base_model.named_parameters())
    with torch.no_grad():
        for key, value in own.items():
            if key in inner:
                inner[key].copy_(value)
    return model.eval(), saved


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_gives_what_it_gave(name: str, static: bool) -> None:
    model, saved = base(name, name if static else None)
    model.load_adapter(STATIC / name, load_as="b", set_active=True)
    with torch.no_grad():
        torch.testing.assert_close(model(saved["ids"]).logits, saved["logits"], rtol=0, atol=1e-5)
    if not static:
        assert model.active_head == "b" and model.get_labels() == [f"LABEL_{i}" for i in range(model.config.num_labels)]
        model.load_head(STATIC / name, load_as="c")
        with torch.no_grad():
            torch.testing.assert_close(model(saved["ids"], head="c").logits, saved["logits"], rtol=0, atol=1e-5)


def test_a_language_model_keeps_its_table() -> None:
    name = "BertForMaskedLM"
    model, saved = base(name)
    model.load_adapter(STATIC / name, load_as="b", set_active=True, allow_pickle=True)
    with torch.no_grad():
        torch.testing.assert_close(model(saved["ids"]).logits, saved["logits"], rtol=0, atol=1e-5)


def test_a_class_of_language_models_has_it_already() -> None:
    name = "BertForMaskedLM"
    model, saved = base(name, name)
    with pytest.raises(HeadError, match="with_head=False"):
        model.load_adapter(STATIC / name, load_as="b", allow_pickle=True)
    assert not model.adapters
    own = model.state_dict()
    with torch.no_grad():
        for key, value in torch.load(STATIC / name / "pytorch_model_head.bin", weights_only=True).items():
            own[key].copy_(value)
    model.load_adapter(STATIC / name, load_as="b", set_active=True, allow_pickle=True)
    with torch.no_grad():
        torch.testing.assert_close(model(saved["ids"]).logits, saved["logits"], rtol=0, atol=1e-5)


def test_what_does_not_fit(tmp_path: Path) -> None:
    name = "BertForSequenceClassification"
    for path in (STATIC / name).iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    model, _ = base(name)
    with pytest.raises(LabelMismatchError):
        model.load_adapter(tmp_path, id2label={0: "no", 1: "yes"})
    content = json.loads((tmp_path / "head_config.json").read_text())
    for values, error in (
        ({"model_class": "NothingForSequenceClassification"}, HeadError),
        ({"label2id": {"no": 0, "yes": 1}}, TensorMismatchError),
    ):
        (tmp_path / "head_config.json").write_text(json.dumps(content | values))
        with pytest.raises(error):
            model.load_adapter(tmp_path)
        assert not len(model.adapters) and not len(model.heads)
