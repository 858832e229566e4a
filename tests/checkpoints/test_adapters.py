"""Checkpoints that ``adapters`` 1.3.0 wrote: read, they compute what it computed; older ones; what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import adapterhub
import goldens
from adapterhub.composition import Fuse, Stack
from adapterhub.errors import (
    AdapterExistsError,
    AdapterHubError,
    BaseModelMismatchError,
    CheckpointError,
    CheckpointNotFoundError,
    CorruptCheckpointError,
    HeadError,
    LabelMismatchError,
    TensorMismatchError,
)
from goldens import expected, flexible

FOLDER, LABELS = goldens.ADAPTERS, goldens.LABELS


@pytest.mark.parametrize("label", LABELS)
def test_it_computes_what_adapters_computed(label: str) -> None:
    model = flexible(label.partition("-")[0])
    inputs, output = expected(FOLDER / label)
    name = model.load_adapter(FOLDER / label, set_active=True, allow_pickle=True)
    assert name == "task" == model.active_head
    assert model.get_labels() == (["no", "yes", "maybe"] if label != "bert-mlm" else None)
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).logits, output, rtol=0, atol=1e-5)
        model.active_adapters = None
        assert (model(**inputs).logits - output).abs().max() > 0.01


def test_a_whole_setup() -> None:
    model = flexible("bert")
    setup, heads = model.load_adapter_setup(FOLDER / "bert-setup", set_active=True)
    assert (setup, heads) == (Stack("a", Fuse("b", "c")), "target") and model.active_head == "target"
    inputs, output = expected(FOLDER / "bert-setup")
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).logits, output, rtol=0, atol=1e-5)


def test_a_class_with_a_head_of_its_own_takes_the_adapter_alone() -> None:
    model = flexible("bert")
    model.load_adapter(FOLDER / "bert-double", set_active=True)
    static = adapterhub.AutoModelForMaskedLM.from_config(model.config)
    static.bert.load_state_dict(model.state_dict(), strict=False)
    with pytest.raises(HeadError, match="with_head=False"):
        static.load_adapter(FOLDER / "bert-double")
    assert not static.adapters
    static.load_adapter(FOLDER / "bert-double", with_head=False, set_active=True)
    inputs, _ = expected(FOLDER / "bert-double")
    model.active_head = None
    with torch.no_grad():
        wanted = model(**inputs).last_hidden_state
        torch.testing.assert_close(static.eval().bert(**inputs).last_hidden_state, wanted)


def test_a_head_alone() -> None:
    model = flexible("bert")
    assert model.load_head(FOLDER / "bert-double", load_as="mine") == "mine"
    assert torch.equal(
        model.heads["mine"].state_dict()["layers.4.bias"],
        load_file(FOLDER / "bert-double" / "model_head.safetensors")["heads.task.4.bias"],
    )


# Older ones


def changed(
    label: str,
    to: Path,
    rename: Callable[[str], str] = str,
    config: dict[str, Any] | None = None,
    without: tuple[str, ...] = (),
    **content: Any,
) -> Path:
    """A copy of a checkpoint with other names of tensors, options, or entries."""
    shutil.copytree(FOLDER / label, to)
    weights = to / "adapter.safetensors"
    save_file({rename(key): tensor for key, tensor in load_file(weights).items()}, weights)
    manifest = to / "adapter_config.json"
    values = json.loads(manifest.read_text()) | content
    values["config"] |= config or {}
    values = {key: value for key, value in values.items() if key not in without}
    manifest.write_text(json.dumps(values))
    return to


@pytest.mark.parametrize(
    "names",
    [
        ("layer_text_task_adapters", "attention_text_task_adapters"),
        ("layer_text_lang_adapters", "attention_text_lang_adapters"),
        ("layer_adapters", "attention_adapters"),
        ("layer_language_adapters", "language_attention_adapters"),
    ],
)
def test_names_of_2020(tmp_path: Path, names: tuple[str, str]) -> None:
    def rename(key: str) -> str:
        return key.replace(".adapters.", f".{names['attention.output' in key]}.")

    options = {"type": "text_task", "invertible_adapter": None}
    folder = changed("bert-double", tmp_path / "old", rename, options, without=("version",))
    model = flexible("bert")
    model.load_adapter(folder, set_active=True)
    inputs, output = expected(folder)
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).logits, output, rtol=0, atol=1e-5)


def test_activations_meant_others_before_there_were_versions(tmp_path: Path) -> None:
    model = flexible("bert")
    for old, new in (("gelu", "gelu_new"), ("gelu_orig", "gelu"), ("swish", "swish")):
        folder = changed("bert-double", tmp_path / old, config={"non_linearity": old}, without=("version",))
        model.load_adapter(folder, overwrite_ok=True)
        assert model.adapters["task"].config.non_linearity == new
    folder = changed("bert-double", tmp_path / "new", config={"non_linearity": "gelu"}, version="3.2.1")
    model.load_adapter(folder, overwrite_ok=True)
    assert model.adapters["task"].config.non_linearity == "gelu"


@pytest.mark.parametrize(("version", "alpha"), [("adapters.1.0.1", 2), ("adapters.1.1.0", 4), ("3.2.1", 4), (None, 4)])
def test_versions_that_ignored_alpha(tmp_path: Path, version: str | None, alpha: int) -> None:
    folder = changed("gpt2-lora", tmp_path / "old", version=version)
    model = flexible("gpt2")
    model.load_adapter(folder)
    assert model.adapters["task"].config.alpha == alpha


def as_union(label: str, to: Path, *members: dict[str, Any]) -> Path:
    """A copy of a checkpoint of one member, said to be of several: its options with these changes each."""
    options = json.loads((FOLDER / label / "adapter_config.json").read_text())["config"]
    return changed(label, to, config={"architecture": "union", "configs": [options | one for one in members]})


@pytest.mark.parametrize(
    ("label", "members", "numbers"),
    [
        # Two LoRAs, which adapters took before it had VeRA, if one of them left out a layer.
        ("bert-lora", [{"intermediate_lora": False}, {"selfattn_lora": False, "leave_out": [7]}], [16, 8]),
        ("bert-lora", [{"leave_out": [0]}, {"leave_out": [1]}], [12, 12]),
        ("gpt2-lora", [{"output_lora": False}, {"selfattn_lora": False, "leave_out": [7]}], [8, 4]),
        ("gpt2-parallel", [{"leave_out": [1]}, {"leave_out": [0]}], [5, 5]),
        ("bert-inv", [{"leave_out": [1]}, {"leave_out": [0], "inv_adapter": None}], [12, 4]),
        ("t5-double", [{"cross_adapter": False}, {"mh_adapter": False, "output_adapter": False}], [32, 8]),
        ("t5-double", [{"mh_adapter": False, "output_adapter": False}, {"cross_adapter": False}], [8, 32]),
    ],
)
def test_a_union_has_the_tensors_of_each_place_in_the_member_that_acts_there(
    label: str, members: list[dict[str, Any]], numbers: list[int], tmp_path: Path
) -> None:
    """Of what one member did alone, others do it at some of its places each."""
    model = flexible(label.partition("-")[0])
    model.load_adapter(as_union(label, tmp_path / "union", *members), set_active=True)
    inputs, output = expected(FOLDER / label)
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).logits, output, rtol=0, atol=1e-5)
    state = model.adapters["task"].state_dict()
    assert [sum(key.startswith(f"{index}.") for key in state) for index in range(len(numbers))] == numbers


def test_a_tensor_that_two_members_of_a_union_claim(tmp_path: Path) -> None:
    model = flexible("bert")
    for label, members, named in [
        ("bert-lora", [{}, {"selfattn_lora": False}], r"members 0 \(lora\) and 1 \(lora\).*intermediate\.dense"),
        ("bert-double", [{}, {"leave_out": [1, 2]}], r"members 0 \(bottleneck\) and 1 \(bottleneck\).*layer\.0"),
        ("bert-loreft", [{"layers": [0]}, {"layers": [1]}], r"members 0 \(reft\) and 1 \(reft\)"),
    ]:
        with pytest.raises(CheckpointError, match=named):
            model.load_adapter(as_union(label, tmp_path / label, *members))
    assert not model.adapters


def test_a_member_of_a_union_that_has_no_tensors(tmp_path: Path) -> None:
    """It acts nowhere in this model and is left out; if it does act in it, they are missing."""
    model = flexible("bert")
    idle = {"cross_adapter": True, "mh_adapter": False, "output_adapter": False}
    model.load_adapter(as_union("bert-double", tmp_path / "idle", {}, idle), set_active=True)
    inputs, output = expected(FOLDER / "bert-double")
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).logits, output, rtol=0, atol=1e-5)
    assert len(model.adapters["task"].config.configs) == 1
    with pytest.raises(TensorMismatchError, match="missing"):
        model.load_adapter(as_union("bert-double", tmp_path / "few", {}, {"leave_out": [0]}), load_as="few")
    with pytest.raises(TensorMismatchError, match="left over"):
        model.load_adapter(as_union("bert-double", tmp_path / "many", {"leave_out": [0, 1]}, {"output_adapter": False}),
                           load_as="many")  # fmt: skip


def test_without_the_prefix_of_the_base_model(tmp_path: Path) -> None:
    folder = changed("bert-double", tmp_path / "bare", lambda key: key.removeprefix("bert."))
    model = flexible("bert")
    model.load_adapter(folder, set_active=True)
    inputs, output = expected(folder)
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).logits, output, rtol=0, atol=1e-5)


# What is refused


def damaged(kind: str, folder: Path) -> Path:
    match kind:
        case "pickle":
            return FOLDER / "bert-pickled"
        case "another base":
            return FOLDER / "gpt2-parallel"
        case "another width":
            return changed("bert-double", folder, hidden_size=768)
        case "truncated":
            changed("bert-double", folder)
            (folder / "adapter.safetensors").write_bytes((folder / "adapter.safetensors").read_bytes()[:-4])
        case "not finite":
            changed("bert-double", folder)
            tensors = load_file(folder / "adapter.safetensors")
            next(iter(tensors.values())).view(-1)[0] = float("nan")
            save_file(tensors, folder / "adapter.safetensors")
        case "no weights":
            changed("bert-double", folder)
            (folder / "adapter.safetensors").unlink()
        case "a tensor too much":
            changed("bert-double", folder)
            tensors = load_file(folder / "adapter.safetensors")
            save_file(tensors | {"bert.encoder.layer.9.output.adapters.task.adapter_up.bias": torch.ones(16)},
                      folder / "adapter.safetensors")  # fmt: skip
        case "a tensor too few":
            changed("bert-double", folder)
            tensors = load_file(folder / "adapter.safetensors")
            tensors.pop(next(iter(tensors)))
            save_file(tensors, folder / "adapter.safetensors")
        case "an unknown option":
            return changed("bert-double", folder, config={"magic": True})
        case "another method":
            return changed("bert-double", folder, config={"architecture": "magic"})
        case "a DoRA":
            return changed("bert-lora", folder, config={"use_dora": True})
        case "a prefix at some layers of T5":
            changed("t5-double", folder)
            values = json.loads((folder / "adapter_config.json").read_text())
            values["config"] = {"architecture": "prefix_tuning", "leave_out": [1]}
            (folder / "adapter_config.json").write_text(json.dumps(values))
        case "other labels":
            return changed("bert-double", folder)
    return folder


@pytest.mark.parametrize(
    ("kind", "error", "named"),
    [
        ("pickle", CheckpointNotFoundError, "allow_pickle"),
        ("another base", BaseModelMismatchError, "gpt2"),
        ("another width", BaseModelMismatchError, "768"),
        ("truncated", CorruptCheckpointError, "adapter.safetensors"),
        ("not finite", CorruptCheckpointError, "finite"),
        ("no weights", CheckpointNotFoundError, "pytorch_adapter.bin"),
        ("a tensor too much", TensorMismatchError, r"layer\.9"),
        ("a tensor too few", TensorMismatchError, "missing"),
        ("an unknown option", CheckpointError, "magic"),
        ("another method", CheckpointError, "magic"),
        ("other labels", LabelMismatchError, "maybe"),
        ("a prefix at some layers of T5", CheckpointError, r"encoder of t5 alone \(leave_out=\(1,\)\)"),
        ("a DoRA", CheckpointError, "gates"),
    ],
)
def test_what_does_not_fit_changes_nothing(tmp_path: Path, kind: str, error: type, named: str) -> None:
    model = flexible("t5" if "T5" in kind else "bert")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    labels = {0: "bad", 1: "good", 2: "maybe"} if kind == "other labels" else None
    with pytest.raises(error, match=named) as caught:
        model.load_adapter(damaged(kind, tmp_path / "damaged"), id2label=labels)
    assert isinstance(caught.value, AdapterHubError)
    assert not model.adapters and not model.heads
    after = model.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[key], before[key]) for key in before)


def test_a_name_that_is_taken() -> None:
    model = flexible("bert")
    model.load_adapter(FOLDER / "bert-double")
    with pytest.raises(AdapterExistsError):
        model.load_adapter(FOLDER / "bert-double")
    model.load_adapter(FOLDER / "bert-double", load_as="other")
    assert list(model.adapters) == ["task", "other"] == list(model.heads)


def test_code_in_a_pickle_is_not_run(tmp_path: Path) -> None:
    folder = tmp_path / "evil"
    shutil.copytree(FOLDER / "bert-pickled", folder)
    (folder / "pytorch_adapter.bin").write_bytes(b"cos\nsystem\n(S'touch " + bytes(tmp_path) + b"/ran'\ntR.")
    with pytest.raises(CorruptCheckpointError, match=r"pytorch_adapter\.bin"):
        flexible("bert").load_adapter(folder, allow_pickle=True)
    assert not (tmp_path / "ran").exists()
