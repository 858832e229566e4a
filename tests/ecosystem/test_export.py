"""Models with adapters that are not merged, exported by torch and to ONNX."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

import adapterhub
import tiny
from adapterhub.composition import Average, BatchSplit, Composition, Fuse, Parallel, Rows, Split, Stack

METHODS = {
    "a": "seq_bn[reduction_factor=8]",
    "c": "lora[r=4]",
    "d": "dora[r=2,attn_matrices=[q,o]]",
    "e": "ia3",
    "i": "seq_bn_inv[reduction_factor=8]",
    "l": "loreft[r=2]",
    "p": "prefix_tuning[prefix_length=4]",
    "u": "unipelt[prefix_length=3]",
}
SETUPS = (
    Stack("c", "a", "p"),
    Stack("i", "l"),
    Stack("u"),
    Average("a", "d", "e", weights=[0.5, 0.2, 0.3]),
    Fuse("a", "c"),
    Rows(["a", "c", None, "p"]),
    BatchSplit("a", Split("c", "e", splits=3), batch_sizes=[1, 3]),
    Parallel("a", Stack("c", "l")),
)


def prepared(family: str, kind: str) -> PreTrainedModel:
    """A model of one layer with an adapter of every kind, with values that change what it gives."""
    model = adapterhub.init(tiny.model(family, kind, num_hidden_layers=1))
    model.config.use_cache = False
    tiny.with_adapters(model, METHODS, Fuse("a", "c"), std=0.1)
    return model


@pytest.fixture(scope="module")
def bert() -> PreTrainedModel:
    return prepared("bert", "ForSequenceClassification")


@pytest.fixture(scope="module")
def llama() -> PreTrainedModel:
    return prepared("llama", "ForCausalLM")


def exported(model: PreTrainedModel, inputs: dict[str, Tensor], **options: Any) -> torch.export.ExportedProgram:
    """The model with a sequence, and a batch if the setup allows, of any length."""
    sizes = {1: torch.export.Dim("seq", min=5, max=60)}
    if model.engine.active.rows is None:
        sizes[0] = torch.export.Dim("batch", min=1, max=64)
    with torch.no_grad():
        return torch.export.export(model, (), inputs, dynamic_shapes=dict.fromkeys(inputs, sizes), **options)


def assert_same(program: Any, model: PreTrainedModel, family: str) -> None:
    """The program gives what the model gives, on other numbers of rows and tokens too."""
    rows = model.engine.active.rows
    for batch, length in ((4, 7), (rows or 2, 11)):
        inputs = tiny.inputs(family, batch, length, seed=length)
        with torch.no_grad():
            torch.testing.assert_close(program(**inputs)[0], model(**inputs)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("setup", "strict"), [*((setup, False) for setup in SETUPS), (SETUPS[-1], True)], ids=repr)
def test_an_exported_decoder_gives_the_same(llama: PreTrainedModel, setup: Composition, strict: bool) -> None:
    llama.set_active_adapters(setup)
    program = exported(
        llama, tiny.inputs("llama", batch=4), strict=strict, prefer_deferred_runtime_asserts_over_guards=True
    )
    assert_same(program.module(), llama, "llama")


@pytest.mark.parametrize("setup", [SETUPS[at] for at in (1, 4, 5, 7)], ids=repr)
def test_onnx_gives_the_same(bert: PreTrainedModel, setup: Composition, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    bert.set_active_adapters(setup)
    inputs = tiny.inputs("bert", batch=4)
    program = exported(bert, inputs)
    assert_same(program.module(), bert, "bert")
    torch.onnx.export(program, f=tmp_path / "model.onnx", dynamo=True, verbose=False)
    session = runtime.InferenceSession(tmp_path / "model.onnx")

    def run(**given: Tensor) -> list[Tensor]:
        named = {name.name: given[name.name].numpy() for name in session.get_inputs()}
        return [torch.from_numpy(value) for value in session.run(None, named)]

    assert_same(run, bert, "bert")


def test_a_model_with_flexible_heads_is_exported(tmp_path: Path) -> None:
    tiny.model("bert").save_pretrained(tmp_path)
    model = adapterhub.AutoAdapterModel.from_pretrained(tmp_path)
    for name in "ab":
        model.add_adapter(name, config="seq_bn[reduction_factor=8]")
        model.add_classification_head(name, num_labels=3)
    model.set_active_adapters(Stack("a"))
    assert_same(exported(model, tiny.inputs("bert", batch=4)).module(), model, "bert")


def test_a_program_is_saved_and_loaded(bert: PreTrainedModel, tmp_path: Path) -> None:
    bert.set_active_adapters(Average("a", "c"))
    torch.export.save(exported(bert, tiny.inputs("bert", batch=4)), tmp_path / "model.pt2")
    assert_same(torch.export.load(tmp_path / "model.pt2").module(), bert, "bert")
