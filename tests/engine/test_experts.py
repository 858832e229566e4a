"""LoRA at the weights of experts, against the model whose weights hold the change, written out with plain matrices."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

import adapterhub
import tiny
from adapterhub import AdapterSetup, Average, BatchSplit, Fuse, MultiTask, Parallel, Rows, Split, Stack
from adapterhub.errors import ConfigError, MergeError

FAMILIES = tuple(tiny.MIXTURES)
BOTH = "target_modules=[gate_up_proj, 'experts.down_proj']"
VARIANTS = {
    "lora": f"lora[r=3, alpha=6, {BOTH}]",
    "aligned": f"lora[r=4, alpha=6, {BOTH}]",
    "rank by role": f"lora[r=2, rank_pattern={{'down': 4}}, alpha_pattern={{'gate_up_proj': 6}}, {BOTH}]",
    "pissa": f"lora[r=3, init_weights=pissa, {BOTH}]",
    "dora": f"dora[r=3, alpha=6, {BOTH}]",
    "mtl_lora": f"mtl_lora[r=3, n_up_projection=2, task_specific_matrix_type=linear, {BOTH}]",
}


def build(family: str, implementation: str | None = None, **configs: str) -> Any:
    """A model with adapters, of values that change what it gives."""
    model: Any = adapterhub.init(tiny.model(family))
    if implementation is not None:
        model.set_experts_implementation(implementation)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    for name, config in configs.items():
        model.add_adapter(name, config=config)
    shake(model)
    return model.eval()


def shake(model: Any) -> None:
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in (*model.adapters.parameters(), *model.fusions.parameters()):
            parameter.add_(0.3 * torch.randn_like(parameter))


def output(model: Any, setup: Any, rows: list[int] | None = None, **kwargs: Any) -> Tensor:
    inputs = tiny.inputs("llama", batch=4)
    inputs = {name: value if rows is None else value[rows] for name, value in inputs.items()}
    with torch.no_grad(), AdapterSetup(setup):
        return model(**inputs, **kwargs).last_hidden_state


def dense(model: Any, name: str) -> dict[str, Tensor]:
    """The base model's parameters with the change of an adapter, expert by expert; gradients go through."""
    found = {}
    for place in model.engine.places:
        part: Any = model.adapters[name].at(place.name)
        if part is None:
            continue
        *owner, leaf = place.path.split(".")
        module = model.get_submodule(".".join(owner))
        stored = getattr(module, leaf).detach()
        down, up = part.factors()
        matrices = []
        for expert in range(len(stored)):
            matrix = stored[expert].T if module.is_transposed else stored[expert]
            matrix = matrix + part.scaling * up[expert] @ down[expert]
            if part.magnitude is not None:
                norms = matrix.detach().pow(2).sum(1).sqrt()
                matrix = (part.magnitude[expert] / norms)[:, None] * matrix
            matrices.append(matrix.T if module.is_transposed else matrix)
        found[place.path] = torch.stack(matrices)
    return found


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_the_model_with_other_weights(family: str, variant: str) -> None:
    model = build(family, a=VARIANTS[variant])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    classes = [type(module) for module in model.modules()]
    bare = output(model, None)
    inputs, weights = tiny.inputs("llama"), dense(model, "a")
    assert len(weights) == (2 if family == "deepseek-v3" else 4)
    wanted = functional_call(model, weights, (), inputs).last_hidden_state
    wanted.square().sum().backward()
    own = dict(model.adapters["a"].named_parameters())
    gradients = {path: parameter.grad for path, parameter in own.items()}
    model.train_adapter("a")
    model.eval()
    model.zero_grad()
    found = model(**inputs).last_hidden_state
    assert [type(module) for module in model.modules()] == classes
    assert model.state_dict().keys() == before.keys()
    assert (found - output(model, None, [0, 1, 2])).abs().max() > 0.05
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=2e-5)
    found.square().sum().backward()
    for path, parameter in own.items():
        torch.testing.assert_close(parameter.grad, gradients[path], rtol=1e-3, atol=1e-3)
    with torch.no_grad():
        model.merge_adapter("a")
        torch.testing.assert_close(model(**inputs).last_hidden_state, wanted, rtol=1e-4, atol=2e-5)
        model.reset_adapter()
    assert torch.equal(output(model, None), bare)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("implementation", ["eager", "batched_mm", "grouped_mm"])
@pytest.mark.parametrize("family", ["mixtral", "gpt-oss"])
def test_begins_as_the_identity_whatever_runs_the_experts(family: str, implementation: str) -> None:
    model = build(family, implementation)
    model.add_adapter("a", config=VARIANTS["lora"])
    module = model.get_submodule("layers.0.mlp.experts")
    config = module.config
    bare = output(model, None)
    torch.testing.assert_close(output(model, "a"), bare, rtol=1e-5, atol=1e-5)
    assert module.config is config and config._experts_implementation == implementation


def test_bias_of_the_experts_that_have_one() -> None:
    model = build("gpt-oss", a=f"lora[r=2, bias=True, {BOTH}]")
    adapted = output(model, "a")
    model.merge_adapter("a")
    torch.testing.assert_close(output(model, None), adapted, rtol=1e-4, atol=2e-5)
    assert model.adapters["a"].at("layers.0.feed_forward.experts.down").bias.shape == (4, 32)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_row_of_a_batch_is_as_if_it_ran_alone(family: str) -> None:
    model = build(
        family,
        a=VARIANTS["lora"],
        b="lora[r=4, target_modules=[down]]",
        c="seq_bn[reduction_factor=8]",
        d=VARIANTS["dora"],
    )
    model.add_adapter_fusion(Fuse("a", "b"))
    shake(model)
    parts = ("a", None, Stack("a", Average("b", "d", weights=[1, 3]), "c"), Fuse("a", "b"))
    together = output(model, Rows(parts))
    for row, part in enumerate(parts):
        torch.testing.assert_close(together[row : row + 1], output(model, part, [row]), rtol=1e-4, atol=2e-5)
    every = torch.cat([output(model, part) for part in ("a", "b")])
    torch.testing.assert_close(output(model, Parallel("a", "b")), every, rtol=1e-4, atol=2e-5)
    rows = output(model, Rows(["b", "a", "a", "a"]))
    torch.testing.assert_close(output(model, BatchSplit("b", "a", batch_sizes=[1, 3])), rows)
    torch.testing.assert_close(output(model, MultiTask("a", "b"), task_ids=[1, 0, 0, 0]), rows, rtol=1e-4, atol=2e-5)


def test_changes_at_one_weight_add_up() -> None:
    model = build("mixtral", a=VARIANTS["lora"], b="lora[r=4, target_modules=[down]]")
    both = {path: value.clone() for path, value in dense(model, "a").items()}
    for path, value in dense(model, "b").items():
        both[path] += value - model.get_parameter(path)
    with torch.no_grad():
        wanted = functional_call(model, both, (), tiny.inputs("llama", batch=4)).last_hidden_state
    torch.testing.assert_close(output(model, Stack("a", "b")), wanted, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_positions_have_experts_of_their_own(family: str) -> None:
    """The last layer's feed-forward sees one position at a time, so each is as under its own adapter alone."""
    last = f"leave_out=[0], {BOTH}]"
    model = build(family, a=f"lora[r=3, {last}", b=f"lora[r=4, alpha=6, {last}")
    one, other = output(model, "a"), output(model, "b")
    found = output(model, Rows([Split("a", "b", splits=2), "a", "b", Split(Stack("a", "b"), "a", splits=5)]))
    torch.testing.assert_close(found[0], torch.cat((one[0, :2], other[0, 2:])), rtol=1e-4, atol=2e-5)
    torch.testing.assert_close(found[1:3], torch.stack((one[1], other[2])), rtol=1e-4, atol=2e-5)
    torch.testing.assert_close(found[3, 5:], one[3, 5:], rtol=1e-4, atol=2e-5)
    assert (one - other).abs().max() > 0.1


@pytest.mark.parametrize(
    ("family", "setup"), [("mixtral", "a"), ("gpt-oss", Rows(["a", None, "b", "a"]))], ids=["one", "rows"]
)
def test_compiled_without_a_break(family: str, setup: Any) -> None:
    model = build(family, a=VARIANTS["lora"], b=VARIANTS["aligned"])
    model.set_active_adapters(setup)
    inputs = tiny.inputs("llama", batch=4)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.no_grad():
        found = compiled(**inputs).last_hidden_state
        torch.testing.assert_close(found, model(**inputs).last_hidden_state, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_have_handlers_of_their_own(again: Any) -> None:
    model = build("mixtral", a=VARIANTS["lora"])
    model.set_active_adapters("a")
    inputs = tiny.inputs("llama")
    other = again(model)
    with torch.no_grad():
        wanted = model(**inputs).last_hidden_state
        other.adapters["a"].at("layers.0.feed_forward.experts.down").lora_B.zero_()
        assert torch.equal(model(**inputs).last_hidden_state, wanted)
        assert not torch.equal(other(**inputs).last_hidden_state, wanted)
        other.set_active_adapters(None)
        assert torch.equal(model(**inputs).last_hidden_state, wanted)


def test_generation_and_checkpointing() -> None:
    model: Any = adapterhub.init(tiny.model("mixtral", "ForCausalLM"))
    model.add_adapter("a", config=VARIANTS["lora"])
    shake(model)
    ids = tiny.inputs("llama")["input_ids"]
    model.set_active_adapters(Rows(["a", None, "a"]))
    found = model.generate(ids, max_new_tokens=4, do_sample=False)
    for row, part in enumerate(("a", None, "a")):
        model.set_active_adapters(part)
        alone = model.generate(ids[row : row + 1], max_new_tokens=4, do_sample=False)
        assert torch.equal(found[row, : alone.shape[1]], alone[0])
    gradients = []
    for checkpointing in (False, True):
        model.train_adapter("a")
        if checkpointing:
            model.gradient_checkpointing_enable()
        model.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        gradients.append([parameter.grad.clone() for parameter in model.adapters.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_saved_loaded_and_converted(tmp_path: Path) -> None:
    model = build("gpt-oss", a=VARIANTS["dora"])
    wanted = output(model, "a")
    model.save_adapter(tmp_path, "a")
    model.load_adapter(tmp_path, load_as="b")
    assert torch.equal(output(model, "b"), wanted)
    model.convert_adapter("a", "plain", rank=32)
    torch.testing.assert_close(output(model, "plain"), wanted, rtol=1e-3, atol=1e-4)
    model.average_adapter("c", ["plain", "plain"], combine_strategy="lora_delta_w_svd", svd_rank=32)
    torch.testing.assert_close(output(model, "c"), wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("config", "sites"),
    [
        ("lora[r=2, selfattn_lora=False, output_lora=True]", {"experts.down"}),
        ("lora[r=2, selfattn_lora=False, intermediate_lora=True]", {"experts.gate_up"}),
        ("lora[r=2, target_modules=gate_up]", {"experts.gate_up"}),
        (
            r"lora[r=2, target_modules='layers\.\d\.mlp\.experts\.(gate_up|down)_proj']",
            {"experts.gate_up", "experts.down"},
        ),
    ],
)
def test_chosen_by_role_name_and_expression(config: str, sites: set[str]) -> None:
    model = build("mixtral", a=config)
    expected = {f"layers.{layer}.feed_forward.{site}" for layer in (0, 1) for site in sites}
    assert set(model.adapters["a"].site_names) == expected


def test_every_linear_map_is_not_every_expert() -> None:
    model = build("mixtral", a="lora[r=2, target_modules='all-linear']", b="ia3")
    for adapter in model.adapters.values():
        assert not any("experts" in site for site in adapter.site_names)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (f"lora[r=25, {BOTH}]", r"experts.down: r is 25, above the 24 of the weight \(32, 24\)"),
        (f"lora[r=2, use_gating=True, {BOTH}]", "use_gating has no meaning for experts"),
        ("vera[target_modules=[gate_up_proj]]", "no weight of this model is 'gate_up_proj'"),
    ],
)
def test_what_has_no_meaning_is_refused(config: str, said: str) -> None:
    model = build("mixtral")
    with pytest.raises(ConfigError, match=said):
        model.add_adapter("a", config=config)
    assert not model.adapters


def test_what_the_base_has_no_bias_for_is_not_merged() -> None:
    model = build("mixtral", a=f"lora[r=2, bias=True, {BOTH}]")
    bare = output(model, None)
    with pytest.raises(MergeError, match="the base model no place for it"):
        model.merge_adapter("a")
    assert torch.equal(output(model, None), bare)


def test_half_precision_and_autocast() -> None:
    """The change is computed in the adapter's own precision, and under autocast in that of autocast."""
    model = build("mixtral", a=VARIANTS["aligned"])
    wanted = output(model, "a")
    with torch.autocast("cpu", torch.bfloat16):  # where a token may go to another expert
        assert (output(model, "a") - wanted).abs().median() < 0.02
    model.to(torch.bfloat16)
    model.adapter_to("a", dtype=torch.float32)
    found = output(model, "a")
    assert found.dtype == torch.bfloat16
    assert (found.float() - wanted).abs().median() < 0.02
    assert (found.float() - output(model, None).float()).abs().median() > 0.1


def test_double_precision() -> None:
    model = build("mixtral", "eager", a=VARIANTS["aligned"])
    wanted = output(model, "a")
    found = output(model.double(), "a")
    assert found.dtype == torch.float64
    torch.testing.assert_close(found.float(), wanted, rtol=1e-4, atol=1e-5)
