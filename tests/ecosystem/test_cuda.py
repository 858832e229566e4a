"""What needs a GPU: half precision, kernels that torch compiles, generation with compiled static caches."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

import adapterhub
import tiny
from adapterhub.composition import Average, Fuse, Parallel, Rows, Stack
from adapterhub.methods import gathered, load_config

pytestmark = pytest.mark.cuda
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
METHODS = {
    "a": "seq_bn[reduction_factor=4]",
    "c": "lora[r=4,target_modules=all-linear]",
    "d": "dora[r=2]",
    "e": "ia3",
    "i": "seq_bn_inv[reduction_factor=4]",
    "l": "loreft[r=2]",
    "p": "prefix_tuning[prefix_length=3]",
    "u": "unipelt[prefix_length=2]",
    "v": "vera[r=4]",
}
SETUPS: tuple[Any, ...] = (
    *METHODS,
    Stack("c", "a", "p"),
    Average("a", "d"),
    Fuse("a", "c"),
    Rows(["a", "p", None, "c"]),
    Parallel("a", "c"),
)
WIDE = {"hidden_size": 64, "head_dim": 16, "intermediate_size": 64}


def prepared(kind: str = "ForCausalLM", **changes: Any) -> PreTrainedModel:
    """A decoder on the GPU with an adapter of every kind, with values that change what it gives."""
    model = adapterhub.init(tiny.model("llama", kind, **WIDE, **changes))
    tiny.with_adapters(model, METHODS, Fuse("a", "c"), std=0.1)
    return model.to(DEVICE)


def inputs() -> dict[str, Tensor]:
    return {name: value.to(DEVICE) for name, value in tiny.inputs("llama", batch=4).items()}


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        return model(**inputs()).logits.float()


@pytest.fixture(autouse=True)
def exact() -> Any:
    """Full precision of 32-bit products, so that what differs is wrong."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    torch.compiler.reset()
    yield
    torch.set_float32_matmul_precision(before)


def test_the_gpu_gives_what_the_cpu_gives() -> None:
    model = prepared()
    for setup in SETUPS:
        model.to(DEVICE).set_active_adapters(setup)
        found = logits(model).cpu()
        model.cpu()
        with torch.no_grad():
            wanted = model(**tiny.inputs("llama", batch=4)).logits
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4, msg=lambda text, s=setup: f"{s}: {text}")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("setup", SETUPS, ids=repr)
def test_a_base_in_half_precision(setup: Any, dtype: torch.dtype) -> None:
    model = prepared()
    model.set_active_adapters(setup)
    wanted = logits(model)
    for parameter in model.base_parameters():
        parameter.data = parameter.data.to(dtype)
    torch.testing.assert_close(logits(model), wanted, rtol=0.05, atol=0.05)
    model.train_adapter(setup)
    model.eval()
    model(**inputs()).logits.float().square().mean().backward()
    gradients = [parameter.grad for parameter in model.adapters.parameters() if parameter.grad is not None]
    assert gradients and all(gradient.dtype == torch.float32 and gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_training_under_autocast(dtype: torch.dtype) -> None:
    model = prepared()
    found = []
    for enabled in (False, True):
        model.train_adapter(Stack("c", "a", "p"))
        model.eval()
        model.zero_grad()
        with torch.autocast(DEVICE, dtype=dtype, enabled=enabled):
            loss = model(**inputs(), labels=inputs()["input_ids"]).loss
        loss.backward()
        found.append(torch.cat([p.grad.flatten() for p in model.adapters.parameters() if p.grad is not None]))
    assert torch.nn.functional.cosine_similarity(*found, dim=0) > 0.99


@pytest.mark.parametrize("setup", ["p", "u", Stack("c", "a", "p"), Rows(["a", "p", None, "c"])], ids=repr)
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_flex_attention_with_prefixes(setup: Any, compiled: bool) -> None:
    flex, sdpa = prepared(attn_implementation="flex_attention"), prepared(attn_implementation="sdpa")
    for model in (flex, sdpa):
        model.set_active_adapters(setup)
    run = torch.compile(flex) if compiled else flex
    torch.testing.assert_close(logits(run), logits(sdpa), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("setup", SETUPS, ids=repr)
def test_inductor(setup: Any) -> None:
    model = prepared()
    model.train_adapter(setup)
    model.eval()
    compiled = torch.compile(model, fullgraph=True)
    results = []
    for run in (model, compiled):
        model.zero_grad()
        output = run(**inputs()).logits
        output.square().mean().backward()
        results.append((output.detach(), [p.grad.clone() for p in model.adapters.parameters() if p.grad is not None]))
    (wanted, wanted_gradients), (found, gradients) = results
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)
    for gradient, one in zip(gradients, wanted_gradients, strict=True):
        torch.testing.assert_close(gradient, one, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("setup", [None, *SETUPS], ids=repr)
def test_generation_with_a_static_cache(setup: Any) -> None:
    model = prepared()
    model.generation_config.eos_token_id = None
    model.set_active_adapters(setup)
    ids = inputs()["input_ids"]
    options = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    wanted = model.generate(ids, **options)
    assert torch.equal(model.generate(ids, cache_implementation="static", **options), wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", ["seq_bn[reduction_factor=4]", "double_seq_bn", "scaled_par_bn", "lora[r=4]"])
def test_the_kernel_gives_what_matrix_products_give(
    method: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("triton")
    count = 256
    model = adapterhub.init(tiny.model("bert", "Model")).eval().to(DEVICE, dtype)
    bank = model.engine.add_bank("bank", load_config(method), capacity=count, dtype=dtype)
    for slot in range(count):
        bank.put(slot, {path: 0.2 * torch.randn(shape) for path, shape in bank.shapes.items()})
    model.set_active_adapters("bank")
    rows = {name: value.to(DEVICE) for name, value in tiny.inputs("bert", batch=count).items()}
    slots = torch.randint(count, (count,)).tolist()

    def run() -> Tensor:
        with torch.no_grad():
            return model(**rows, adapter_slots=slots).last_hidden_state.float()

    inner, ran = gathered.runs, []
    monkeypatch.setattr(gathered, "runs", lambda *given: ran.append(inner(*given)) or ran[-1])
    found = run()
    assert ran and all(ran)
    monkeypatch.setattr(gathered, "runs", lambda *_: False)
    tolerance = {torch.float32: 1e-4, torch.float16: 0.02, torch.bfloat16: 0.1}[dtype]
    torch.testing.assert_close(found, run(), rtol=tolerance, atol=tolerance)


def test_training_in_place_leaves_the_base_alone() -> None:
    model = prepared()
    before = {name: value.clone() for name, value in model.state_dict().items() if "adapters." not in name}
    model.train_adapter(Stack("c", "a"))
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, fused=DEVICE == "cuda")
    losses = []
    for _ in range(30):
        optimiser.zero_grad()
        loss = model(**inputs(), labels=inputs()["input_ids"]).loss
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.5
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
