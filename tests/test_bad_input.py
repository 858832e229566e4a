"""What is refused: the error says what, where and what to do, and the model is as it was before the call."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

import adapterhub
import tiny
from adapterhub import AdapterSetup
from adapterhub.composition import Average, BatchSplit, Fuse, MultiTask, Parallel, Rows, Split, Stack
from adapterhub.errors import (
    AdapterExistsError,
    AdapterHubError,
    AdapterNotFoundError,
    BaseModelMismatchError,
    CheckpointError,
    CheckpointNotFoundError,
    CompositionError,
    ConfigError,
    CorruptCheckpointError,
    HeadError,
    LabelMismatchError,
    MergeError,
    TensorMismatchError,
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    tiny.model("llama", "ForCausalLM").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(base: Path) -> PreTrainedModel:
    """A model in the midst of something: adapters, a fusion and heads, some active, some trained."""
    made = adapterhub.AutoAdapterModel.from_pretrained(base)
    made.add_adapter("a", config="seq_bn[reduction_factor=4]")
    made.add_adapter("b", config="lora[r=2]")
    made.add_adapter("p", config="prefix_tuning[prefix_length=2]")
    made.add_adapter("n", config="adapter_plus[reduction_factor=4]")
    made.add_adapter_fusion(Fuse("a", "b"))
    made.add_classification_head("a", num_labels=2)
    made.add_tagging_head("b", num_labels=3)
    made.train_adapter(Stack("a", "b"))
    made.active_head = "a"
    return made


@pytest.fixture(scope="module")
def saved(model: PreTrainedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "a"
    model.save_adapter(folder, "a")
    return folder


def state(model: PreTrainedModel) -> dict[str, Any]:
    """Everything about a model that a call could change."""
    return {
        "tensors": {name: (value.clone(), value.data_ptr()) for name, value in model.state_dict().items()},
        "trains": {name: parameter.requires_grad for name, parameter in model.named_parameters()},
        "modes": {name: module.training for name, module in model.named_modules()},
        "classes": {name: type(module) for name, module in model.named_modules()},
        "hooks": {
            name: [list(hooks) for hooks in (module._forward_hooks, module._forward_pre_hooks)]
            for name, module in model.named_modules()
        },
        "configurations": {name: id(getattr(module, "config", None)) for name, module in model.named_modules()},
        "adapters": {name: (id(adapter), adapter.config) for name, adapter in model.adapters.items()},
        "fusions": {name: id(fusion) for name, fusion in model.fusions.items()},
        "heads": {name: id(head) for name, head in model.heads.items()},
        "active": (model.active_adapters, id(model.engine.active), model.active_head, model.merged_adapter),
        "configuration": model.config.to_json_string(),
    }


def assert_same(one: Any, other: Any, where: str = "state") -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key, value in one.items():
            assert_same(value, other[key], f"{where}.{key}")
    elif isinstance(one, tuple):
        for value, another in zip(one, other, strict=True):
            assert_same(value, another, where)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    else:
        assert one == other, where


def assert_refused(model: PreTrainedModel, call: Callable[[], Any], error: type[Exception], words: str) -> None:
    before = state(model)
    with pytest.raises(error, match=words) as caught:
        call()
    assert isinstance(caught.value, AdapterHubError)
    assert_same(before, state(model))
    with torch.no_grad():  # and it still runs
        assert torch.isfinite(run(model).logits).all()


def run(model: PreTrainedModel, rows: int = 3, **kwargs: Any) -> Any:
    return model(**tiny.inputs("llama", batch=rows), **kwargs)


def run_in(model: PreTrainedModel, setup: Any, **kwargs: Any) -> Any:
    with torch.no_grad(), AdapterSetup(setup, head_setup="a"):
        return run(model, **kwargs)


Case = tuple[Callable[[PreTrainedModel], Any], type[Exception], str]
CALLS: dict[str, Case] = {
    # Names
    "a name that is taken": (lambda m: m.add_adapter("a"), AdapterExistsError, r"'a' already.*overwrite_ok=True"),
    "a fusion that is there": (lambda m: m.add_adapter_fusion(Fuse("a", "b")), AdapterExistsError, "a,b.*overwrite_ok"),
    "a head that is there": (
        lambda m: m.add_classification_head("a", num_labels=2),
        AdapterExistsError,
        "'a' already.*overwrite_ok",
    ),
    "a name with a dot": (lambda m: m.add_adapter("a.b"), ConfigError, r"'a\.b' contains.*a_b"),
    "an empty name": (lambda m: m.add_adapter(""), ConfigError, "not empty"),
    "deleting what is not there": (lambda m: m.delete_adapter("x"), AdapterNotFoundError, "'x'.*a, b"),
    "saving what is not there": (lambda m: m.save_adapter("/nowhere", "x"), AdapterNotFoundError, "'x'.*a, b"),
    "merging what is not there": (lambda m: m.merge_adapter("x"), AdapterNotFoundError, "'x'.*a, b"),
    # Configurations
    "an unknown method": (lambda m: m.add_adapter("x", config="loraa"), ConfigError, "loraa.*lora"),
    "an unknown option": (lambda m: m.add_adapter("x", config="lora[rank=2]"), ConfigError, r"rank.*\br\b"),
    "a value out of range": (lambda m: m.add_adapter("x", config="lora[r=0]"), ConfigError, r"r must be.*above 0"),
    "a rank above the dimension": (
        lambda m: m.add_adapter("x", config="lora[r=1000]"),
        ConfigError,
        r"layers\.0\.attention\.[qv]: r is 1000, above the 32",
    ),
    "a rank above one dimension of many": (
        lambda m: m.add_adapter("x", config="lora[r=20,target_modules=[q_proj,k_proj]]"),
        ConfigError,
        r"k: r is 20, above the 16",
    ),
    "an unknown target": (
        lambda m: m.add_adapter("x", config="lora[target_modules=[q_projj]]"),
        ConfigError,
        r"'q_projj'.*Near:.*q_proj",
    ),
    "an expression that fits nothing": (
        lambda m: m.add_adapter("x", config='lora[target_modules="decoder.*"]'),
        ConfigError,
        r"decoder\.\*",
    ),
    "an expression that is none": (
        lambda m: m.add_adapter("x", config='lora[target_modules="*q"]'),
        ConfigError,
        r"'\*q' is no regular expression",
    ),
    "an unknown tower": (
        lambda m: m.add_adapter("x", config="lora[leave_out=[vision]]"),
        ConfigError,
        "'vision'.*one tower",
    ),
    "a method that would act nowhere": (lambda m: m.add_adapter("x", config="bitfit"), ConfigError, "act nowhere"),
    # Compositions
    "activating what is not there": (
        lambda m: m.set_active_adapters(Stack("a", "x")),
        AdapterNotFoundError,
        "'?x'?.*holds: a, b",
    ),
    "training what is not there": (lambda m: m.train_adapter("x"), AdapterNotFoundError, "x.*holds: a, b"),
    "running what is not there": (lambda m: run_in(m, Rows(["a", "x", None])), AdapterNotFoundError, "x.*holds: a, b"),
    "fusing what is not there": (lambda m: m.add_adapter_fusion(Fuse("a", "x")), AdapterNotFoundError, "'x'.*a, b"),
    "averaging what is not there": (lambda m: m.average_adapter("y", ["a", "x"]), AdapterNotFoundError, "'x'.*a, b"),
    "a fusion that was not added": (
        lambda m: m.set_active_adapters(Fuse("b", "a")),
        AdapterNotFoundError,
        "add_adapter_fusion",
    ),
    "what is no composition": (lambda m: m.set_active_adapters(3), CompositionError, "3"),
    "prefixes that cannot be averaged": (
        lambda m: m.set_active_adapters(Average("p", "p")),
        CompositionError,
        "cannot be fused, averaged",
    ),
    "norms that cannot stand side by side": (
        lambda m: m.set_active_adapters(Average("a", "n")),
        CompositionError,
        "cannot act side by side",
    ),
    "layers that are not there": (
        lambda m: m.set_active_adapters("a", skip_layers=[0, 9]),
        CompositionError,
        r"\[9\].*0 to 1",
    ),
    # Batches
    "a batch of another size than Rows": (lambda m: run_in(m, Rows(["a", "b"])), CompositionError, "of 2 rows.*has 3"),
    "a batch of another size than BatchSplit": (
        lambda m: run_in(m, BatchSplit("a", "b", batch_sizes=[3, 1])),
        CompositionError,
        "of 4 rows.*has 3",
    ),
    "no tasks": (lambda m: run_in(m, MultiTask("a", "b")), CompositionError, r"pass task_ids=\[\.\.\.\]"),
    "tasks for another batch": (
        lambda m: run_in(m, MultiTask("a", "b"), task_ids=[0, 1]),
        CompositionError,
        "2 task_ids and 3 rows",
    ),
    "tasks that are not there": (
        lambda m: run_in(m, MultiTask("a", "b"), task_ids=[0, 1, 2]),
        CompositionError,
        r"from 0 to 1.*\[0, 1, 2\]",
    ),
    "as many heads as there are no channels": (
        lambda m: run_in_heads(m, Parallel("a", "b"), ["a", "b", "a"]),
        HeadError,
        "3 heads.*2 channels",
    ),
    "an unknown head": (lambda m: setattr(m, "active_head", "x"), HeadError, "'x'.*a"),
    # Merging
    "merging what acts on more than weights": (
        lambda m: m.merge_adapter("a"),
        MergeError,
        "cannot be merged.*layers.0",
    ),
    "ejecting what is no prefix": (lambda m: m.eject_prefix_tuning("a"), ConfigError, "'a' is no prefix tuning"),
}


def run_in_heads(model: PreTrainedModel, setup: Any, heads: Any) -> Any:
    with torch.no_grad(), AdapterSetup(setup, head_setup=heads):
        return run(model)


@pytest.mark.parametrize("case", CALLS)
def test_a_call_that_is_refused_changes_nothing(model: PreTrainedModel, case: str) -> None:
    call, error, words = CALLS[case]
    assert_refused(model, lambda: call(model), error, words)


def test_a_split_of_no_tokens_is_refused() -> None:
    with pytest.raises(CompositionError, match="splits"):
        Split("a", "b", splits=0)


# Files


def manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "adapter_config.json").read_text())


def rewrite(folder: Path, **changes: Any) -> None:
    (folder / "adapter_config.json").write_text(json.dumps(manifest(folder) | changes))


def weights(folder: Path, kind: str = "adapter") -> Path:
    return folder / manifest(folder)[kind]["weights"]["file"]


def name_weights(folder: Path, name: str, data: bytes | None = None) -> None:
    """Have the manifest name another file, with the digest of ``data`` if that is given."""
    entry = manifest(folder)["adapter"]
    entry["weights"]["file"] = name
    if data is not None:
        entry["weights"]["sha256"] = hashlib.sha256(data).hexdigest()
    rewrite(folder, adapter=entry)


def not_finite(folder: Path) -> None:
    path = weights(folder)
    tensors = load_file(path)
    next(iter(tensors.values())).view(-1)[0] = float("nan")
    save_file(tensors, path)
    name_weights(folder, path.name, path.read_bytes())


def truncated(folder: Path) -> None:
    path = weights(folder)
    path.write_bytes(path.read_bytes()[:-7])


def truncated_with_its_digest(folder: Path) -> None:
    truncated(folder)
    name_weights(folder, weights(folder).name, weights(folder).read_bytes())


def altered(folder: Path) -> None:
    path = weights(folder)
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def outside(folder: Path) -> Path:
    return Path(shutil.copy(weights(folder), folder.parent / "elsewhere.safetensors"))


def linked_outside(folder: Path) -> None:
    target = outside(folder)
    weights(folder).unlink()
    (folder / manifest(folder)["adapter"]["weights"]["file"]).symlink_to(target)


def named_outside(folder: Path) -> None:
    name_weights(folder, f"../{outside(folder).name}")


def named_by_an_absolute_path(folder: Path) -> None:
    name_weights(folder, str(outside(folder)))


def tensor_missing(folder: Path) -> None:
    path = weights(folder)
    tensors = load_file(path)
    tensors.pop(next(iter(tensors)))
    save_file(tensors, path)
    name_weights(folder, path.name, path.read_bytes())


def other_base(folder: Path) -> None:
    rewrite(folder, base_model=manifest(folder)["base_model"] | {"shape": "1:0", "weights": "1:0", "probe": None})


FILES: dict[Callable[[Path], Any], tuple[type[Exception], str]] = {
    not_finite: (CorruptCheckpointError, "not finite"),
    truncated: (CorruptCheckpointError, r"adapter\.\w+\.safetensors.*truncated or altered.*Copy it again"),
    truncated_with_its_digest: (CorruptCheckpointError, "not a whole safetensors file.*Copy it again"),
    altered: (CorruptCheckpointError, r"adapter\.\w+\.safetensors.*truncated or altered.*Copy it again"),
    linked_outside: (CorruptCheckpointError, "outside the folder"),
    named_outside: (CorruptCheckpointError, r"outside the folder: '\.\./elsewhere"),
    named_by_an_absolute_path: (CorruptCheckpointError, "outside the folder"),
    tensor_missing: (TensorMismatchError, "missing from the checkpoint.*layers"),
    other_base: (BaseModelMismatchError, "another base model.*allow_other_base=True"),
    lambda folder: weights(folder).unlink(): (CorruptCheckpointError, "could not be read.*Copy it again"),
    lambda folder: weights(folder, "head").unlink(): (CorruptCheckpointError, "head.*could not be read"),
    lambda folder: rewrite(folder, format_version=99): (CorruptCheckpointError, "version 99.*Upgrade"),
    lambda folder: rewrite(folder, format="x"): (CorruptCheckpointError, "not of the native format"),
    lambda folder: (folder / "adapter_config.json").write_text("{"): (CorruptCheckpointError, "not JSON"),
    lambda folder: (folder / "adapter_config.json").unlink(): (CheckpointNotFoundError, "holds no adapter_config.json"),
    shutil.rmtree: (CheckpointNotFoundError, "not a folder"),
}


@pytest.mark.parametrize("harm", FILES)
def test_a_checkpoint_that_is_refused_changes_nothing(
    model: PreTrainedModel, saved: Path, tmp_path: Path, harm: Callable[[Path], Any]
) -> None:
    folder = tmp_path / "harmed"
    shutil.copytree(saved, folder)
    error, words = FILES[harm]
    harm(folder)
    for options in ({"load_as": "new"}, {"load_as": "a", "overwrite_ok": True, "set_active": True}):
        assert_refused(model, lambda options=options: model.load_adapter(folder, **options), error, f"(?s){words}")


def test_a_whole_checkpoint_that_does_not_fit_here(model: PreTrainedModel, saved: Path, base: Path) -> None:
    assert_refused(model, lambda: model.load_adapter(saved), AdapterExistsError, "'a' already.*overwrite_ok")
    labels = {0: "x", 1: "y"}
    for load in (
        lambda: model.load_adapter(saved, load_as="new", id2label=labels),
        lambda: model.load_head(saved, load_as="new", id2label=labels),
    ):
        assert_refused(model, load, LabelMismatchError, "has the labels.*with_head=False")


def put_nan(path: Path) -> None:
    tensors = load_file(path)
    next(iter(tensors.values())).view(-1)[0] = float("nan")
    save_file(tensors, path)


def link_outside(path: Path) -> None:
    target = Path(shutil.move(path, path.parent.parent / "elsewhere.safetensors"))
    path.symlink_to(target)


@pytest.mark.parametrize(
    ("harm", "error", "words"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-7]), CorruptCheckpointError, "not a whole safetensors file"),
        (put_nan, CorruptCheckpointError, "not finite"),
        (link_outside, CheckpointError, "leads out of the folder; put the file itself there"),
        (lambda path: path.unlink(), CheckpointNotFoundError, "adapter"),
    ],
    ids=["truncated", "not finite", "linked outside", "missing"],
)
@pytest.mark.parametrize("form", ["peft", "adapters"])
def test_checkpoints_of_other_libraries(
    model: PreTrainedModel, tmp_path: Path, form: str, harm: Callable[[Path], Any], error: type[Exception], words: str
) -> None:
    folder = tmp_path / "harmed"
    path = _foreign(model, folder, form)
    harm(path)
    assert_refused(
        model, lambda: model.load_adapter(folder, load_as="new", allow_other_base=True), error, f"(?s){words}"
    )


def _foreign(model: PreTrainedModel, folder: Path, form: str) -> Path:
    """A LoRA of another library for this model; returns the path of its weights."""
    folder.mkdir()
    a, b = torch.ones(2, 32), torch.ones(32, 2)
    if form == "peft":
        config = {
            "peft_type": "LORA",
            "r": 2,
            "lora_alpha": 2,
            "target_modules": ["q_proj"],
            "base_model_name_or_path": "",
        }
        names = [f"base_model.model.model.layers.{n}.self_attn.q_proj" for n in (0, 1)]
        tensors = {f"{name}.lora_A.weight": a.clone() for name in names}
        tensors |= {f"{name}.lora_B.weight": b.clone() for name in names}
        path = folder / "adapter_model.safetensors"
    else:
        config = {
            "config": {"architecture": "lora", "r": 2, "alpha": 2, "attn_matrices": ["q"]},
            "hidden_size": 32,
            "model_class": "LlamaAdapterModel",
            "model_name": "",
            "model_type": "llama",
            "name": "l",
            "version": "1.3.0",
        }
        names = [f"layers.{n}.self_attn.q_proj.loras.l" for n in (0, 1)]
        tensors = {f"{name}.lora_A": a.clone() for name in names} | {f"{name}.lora_B": b.clone() for name in names}
        path = folder / "adapter.safetensors"
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file(tensors, path)
    return path
