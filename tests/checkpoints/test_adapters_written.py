"""Checkpoints written as ``adapters`` 1.3.0 writes them: the same tensors and options that it wrote itself."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor

import adapterhub
import tiny
from adapterhub.composition import Fuse, Rows, Stack
from adapterhub.errors import CheckpointError
from goldens import ADAPTERS as FOLDER
from goldens import LABELS, expected, flexible

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 20, "vocab_size": 9}
# A prefix is kept there once for each attention besides.
REPEATED = ".prefix_tuning.pool.prefix_tunings."
# These are read as other forms that give the same: dense matrices as a LoRA, a scaling as part of a matrix.
OTHERWISE = ("bert-dora", "bert-dvora", "bert-vera")


def tensors(folder: Path, stem: str) -> dict[str, Tensor]:
    names = {"adapter": "adapter", "model_head": "model_head", "fusion": "model_adapter_fusion"}
    safe = folder / f"{names[stem]}.safetensors"
    found = load_file(safe) if safe.exists() else torch.load(folder / f"pytorch_{names[stem]}.bin", weights_only=True)
    return {key: value for key, value in found.items() if REPEATED not in key}


def check_same(written: Path, wanted: Path, stem: str, atol: float = 0) -> None:
    made, theirs = tensors(written, stem), tensors(wanted, stem)
    assert made.keys() == theirs.keys()
    for key, value in theirs.items():
        if "parametrizations" not in key and ".units." not in key:  # of which many make one and the same matrix
            torch.testing.assert_close(made[key], value, rtol=0, atol=atol)


def options(folder: Path, manifest: str) -> dict[str, Any]:
    """What a manifest says, but for the alpha of a gated LoRA, which has no effect."""
    values = json.loads((folder / manifest).read_text())
    for one in (values["config"], *values["config"].get("configs", ())):
        if one.get("architecture") == "lora" and one["use_gating"]:
            del one["alpha"]
    return values


@pytest.mark.parametrize("label", [label for label in LABELS if label not in OTHERWISE])
def test_the_bytes_are_those_that_adapters_wrote(label: str, tmp_path: Path) -> None:
    model = flexible(label.partition("-")[0])
    name = model.load_adapter(FOLDER / label, allow_pickle=True)
    model.save_adapter(tmp_path / "out", name, format="adapters")
    check_same(tmp_path / "out", FOLDER / label, "adapter")
    check_same(tmp_path / "out", FOLDER / label, "model_head")
    for manifest in ("adapter_config.json", "head_config.json"):
        assert options(tmp_path / "out", manifest) == options(FOLDER / label, manifest)


@pytest.mark.parametrize("label", LABELS)
def test_read_again_it_gives_the_same(label: str, tmp_path: Path) -> None:
    model = flexible(label.partition("-")[0])
    model.load_adapter(FOLDER / label, allow_pickle=True)
    model.save_adapter(tmp_path / "out", "task", format="adapters")
    model.load_adapter(tmp_path / "out", load_as="again", set_active=True)
    inputs, output = expected(FOLDER / label)
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).logits, output, rtol=0, atol=1e-5)


def test_a_whole_setup(tmp_path: Path) -> None:
    model = flexible("bert")
    model.load_adapter_setup(FOLDER / "bert-setup")
    model.save_adapter_setup(tmp_path / "out", Stack("a", Fuse("b", "c")), "target", format="adapters")
    files = sorted(path.relative_to(FOLDER / "bert-setup") for path in (FOLDER / "bert-setup").rglob("*.*"))
    files = [path for path in files if path.name != "expected.safetensors"]
    assert sorted(path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.*")) == files
    for path in files:
        if path.suffix == ".json":
            assert json.loads((tmp_path / "out" / path).read_text()) == json.loads(
                (FOLDER / "bert-setup" / path).read_text()
            )
        else:
            made, theirs = load_file(tmp_path / "out" / path), load_file(FOLDER / "bert-setup" / path)
            assert made.keys() == theirs.keys()
            assert all(torch.equal(made[key], theirs[key]) for key in made)


@pytest.mark.parametrize(
    ("base", "config", "said"),
    [
        ("bert", "bitfit", "no equal of the method 'bitfit'"),
        ("bert", "houlsby_2019", "train_layer_norm"),
        ("bert", "ia3", "feed_forward='input'"),
        ("bert", "dora", "scales the bias of the base model"),
        ("bert", "lora[bias=True]", "trains no bias"),
        ("bert", "lora[target_modules=all-linear]", "not encoder.layer.0.attention.output.dense"),
        ("bert", "lora[target_modules=['0.attention.self.query', '1.output.dense']]", "would act on"),
        ("bert", "vera[attn_matrices=[q], intermediate_lora=True]", "of one shape"),
        ("bert", "direft[non_linearity=relu]", "comes back as another method"),
        ("bert", "prefix_tuning_flat[shift_positions=True]", "shift_positions"),
        ("t5", "prefix_tuning", "prefix_in_position_bias=True, or save in the format of adapterhub"),
        ("t5", "prefix_tuning[prefix_in_position_bias=True, leave_out=[2]]", "decoder of t5 alone"),
        ("bert", "prefix_tuning[prefix_in_position_bias=True]", "prefix_in_position_bias=False, or save"),
        ("bert", "bitfit|lora", "'bitfit'"),
        ("bert", "lora|lora[selfattn_lora=False, output_lora=True]", r"members 0 \(lora\) and 1 \(lora\).*one LoRA"),
        ("bert", "ia3[feed_forward=output]|seq_bn|lora", r"members 0 \(lora\) and 2 \(lora\).*one LoRA"),
        ("bert", "loreft[layers=[0]]|loreft[layers=[1]]", r"members 0 \(reft\) and 1 \(reft\).*one of this kind"),
        ("bert", "prefix_tuning[leave_out=[0]]|prefix_tuning[leave_out=[1]]", "one of this kind"),
        ("bert", "seq_bn[leave_out=[0]]|double_seq_bn", r"one bottleneck at a place, and both have .*layer\.1\.output"),
        ("bert", "seq_bn_inv[leave_out=[0]]|seq_bn_inv[leave_out=[1]]", "invertible_adapters"),
        (
            "bert",
            "compacter++[leave_out=[0], reduction_factor=2]|compacter[leave_out=[1], reduction_factor=2]",
            "share for one member",
        ),
        ("bert", "compacter++[reduction_factor=2]|vera[r=4]", "share for one member"),
        (
            "bert",
            "compacter++[leave_out=[0], reduction_factor=2, shared_phm_rule=False]|"
            "compacter[leave_out=[1], reduction_factor=2, shared_phm_rule=False]",
            "one Compacter",
        ),
    ],
)
def test_what_adapters_has_no_equal_of_is_refused(base: str, config: str, said: str, tmp_path: Path) -> None:
    model = flexible(base)
    model.add_adapter("a", config=config)
    for parameter in model.adapters["a"].parameters():
        parameter.data.add_(0.1)
    with pytest.raises(CheckpointError, match=said):
        model.save_adapter(tmp_path / "out", "a", format="adapters")
    assert list(tmp_path.iterdir()) == []


def test_bottlenecks_at_sublayers_of_which_adapters_does_not_tell_that_they_are_apart(tmp_path: Path) -> None:
    """It compares ``mh_adapter`` and ``output_adapter`` alone, unless layers are left out."""
    interface = adapterhub.AdapterModelInterface(
        adapter_methods=["bottleneck"],
        model_embeddings="embeddings",
        model_layers="encoder.layer",
        layer_self_attn="attention",
        layer_cross_attn="crossattention",
        attn_q_proj="self.query",
        attn_k_proj="self.key",
        attn_v_proj="self.value",
        attn_o_proj="output.dense",
        layer_intermediate_proj="intermediate.dense",
        layer_output_proj="output.dense",
    )
    decoder = tiny.model("bert", is_decoder=True, add_cross_attention=True)
    model: Any = adapterhub.init(decoder, interface=interface)
    cross = "seq_bn[cross_adapter=True, output_adapter=False{}]"
    model.add_adapter("a", config=cross.format("") + "|seq_bn")
    with pytest.raises(CheckpointError, match="differ in mh_adapter and output_adapter"):
        model.save_adapter(tmp_path / "out", "a", format="adapters")
    assert list(tmp_path.iterdir()) == []
    model.add_adapter("b", config=cross.format(", leave_out=[0]") + "|seq_bn")
    model.save_adapter(tmp_path / "out", "b", format="adapters")


def test_architectures_and_heads_that_adapters_has_not(tmp_path: Path) -> None:
    model: Any = adapterhub.init(tiny.model("mpnet"))
    model.add_adapter("a")
    with pytest.raises(CheckpointError, match="no models of the type 'mpnet'"):
        model.save_adapter(tmp_path / "out", "a", format="adapters")
    own = transformers.XmodModel(transformers.XmodConfig(**SIZES, languages=["en_XX"], default_language="en_XX"))
    of_languages: Any = adapterhub.init(own)
    of_languages.add_adapter("a", config="lora")
    with pytest.raises(CheckpointError, match="language adapters"):
        of_languages.save_adapter(tmp_path / "out", "a", format="adapters")
    by_interface: Any = adapterhub.AutoAdapterModel.from_config(tiny.config("qwen2"))
    by_interface.add_adapter("a", config="prefix_tuning")
    with pytest.raises(CheckpointError, match="no prefix_tuning in models of the type 'qwen2'"):
        by_interface.save_adapter(tmp_path / "out", "a", format="adapters")
    by_interface.add_classification_head("a")
    with pytest.raises(CheckpointError, match="no flexible heads for models of the type 'qwen2'"):
        by_interface.save_adapter(tmp_path / "out", "a", format="adapters")
    flex = flexible("bert")
    flex.add_adapter("a")
    flex.add_sentence_embedding_head("a")
    with pytest.raises(CheckpointError, match="no head of the type 'sentence_embedding'"):
        flex.save_adapter(tmp_path / "out", "a", format="adapters")
    flex.add_adapter("b")
    with pytest.raises(CheckpointError, match="no Rows"):
        flex.save_adapter_setup(tmp_path / "out", Rows(["a", "b"]), format="adapters")
    assert list(tmp_path.iterdir()) == []


def test_layers_are_counted_as_there_in_a_file_and_as_here_in_a_model(tmp_path: Path) -> None:
    """CLIP's image tower runs first, and ``adapters`` counts it last."""
    model: Any = adapterhub.init(tiny.model("clip"))
    factors = {"3": 8, "default": 4}
    image = adapterhub.SeqBnConfig(leave_out=(2, 3), reduction_factor=4)
    text = adapterhub.SeqBnConfig(leave_out=(0, 1), reduction_factor=factors)
    model.add_adapter("a", config=adapterhub.ConfigUnion(image, text, "noreft[layers=[1, 2]]"))
    model.save_adapter(tmp_path, "a", format="adapters")
    written = json.loads((tmp_path / "adapter_config.json").read_text())["config"]["configs"]
    assert [one.get("leave_out", one.get("layers")) for one in written] == [[0, 1], [2, 3], [3, 0]]
    assert written[1]["reduction_factor"] == {"1": 8, "default": 4}
    model.load_adapter(tmp_path, load_as="again")
    assert model.adapters["again"].config == model.adapters["a"].config
    state = model.adapters["a"].state_dict()
    assert all(torch.equal(state[key], tensor) for key, tensor in model.adapters["again"].state_dict().items())


def test_a_folder_that_is_there_is_replaced(tmp_path: Path) -> None:
    """Other files stay, and what cannot be saved leaves all as it was."""
    model = flexible("bert")
    model.load_adapter(FOLDER / "bert-lora")
    model.load_adapter(FOLDER / "bert-double", load_as="other")
    model.save_adapter(tmp_path, "task", format="adapters")
    (tmp_path / "notes.txt").write_text("mine")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    next(model.adapters["other"].parameters()).data.fill_(torch.nan)
    with pytest.raises(CheckpointError, match="not finite"):
        model.save_adapter(tmp_path, "other", format="adapters")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    model.load_adapter(FOLDER / "bert-double", load_as="other", overwrite_ok=True)
    model.save_adapter(tmp_path, "other", format="adapters")
    assert json.loads((tmp_path / "adapter_config.json").read_text())["name"] == "other"
    assert (tmp_path / "notes.txt").read_text() == "mine" and len(list(tmp_path.iterdir())) == len(before)
