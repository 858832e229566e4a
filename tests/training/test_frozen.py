"""A frozen base in half precision and in evaluation mode: what it computes, and that it is given back as it was."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import BertForSequenceClassification, PreTrainedModel, TrainerCallback

import adapterhub
import tiny
from adapterhub.training.dropout import fast_dropout
from adapterhub.training.frozen import frozen_modules, half_precision_base, stop_dropout
from trainings import build, trainer, weights


def state(model: PreTrainedModel) -> dict[str, Tensor]:
    return {name: values.clone() for name, values in model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one)


def test_the_base_is_half_and_its_state_is_its_own(backbone: Path, tmp_path: Path) -> None:
    model = build(backbone)
    before, addresses = state(model), {name: values.data_ptr() for name, values in model.state_dict().items()}
    with pytest.raises(KeyError), half_precision_base(model), half_precision_base(model):
        assert all(p.dtype == torch.bfloat16 for p in model.base_parameters())
        assert all(p.dtype == torch.float32 for p in model.parameters() if p.requires_grad)
        assert same(before, model.state_dict())
        part = model.base_model.encoder.layer[0]
        assert all(values.dtype == torch.float32 for values in part.state_dict().values())
        model.save_pretrained(tmp_path)
        raise KeyError
    assert same(before, model.state_dict())
    assert addresses == {name: values.data_ptr() for name, values in model.state_dict().items()}
    saved = load_file(tmp_path / "model.safetensors")
    assert saved and all(torch.equal(before[name], values) for name, values in saved.items())
    assert not any(module._state_dict_hooks for module in model.modules())


def test_tied_and_trained_parameters() -> None:
    model = adapterhub.init(tiny.model("t5", "ForConditionalGeneration"))
    model.add_adapter("a")
    model.train_adapter("a", train_embeddings=True)
    before = state(model)
    with half_precision_base(model):
        assert model.shared.weight.dtype == torch.float32, "embeddings train"
        assert model.encoder.embed_tokens.weight is model.shared.weight
        assert model.encoder.block[0].layer[0].SelfAttention.q.weight.dtype == torch.bfloat16
    assert same(before, model.state_dict())


def test_what_transformers_keeps_in_float32_is_kept(backbone: Path) -> None:
    model = build(backbone)
    model._keep_in_fp32_modules_strict = {"LayerNorm"}
    with half_precision_base(model):
        kinds = {name.rpartition(".")[0].rpartition(".")[2]: p.dtype for name, p in model.base_model.named_parameters()}
    assert kinds["LayerNorm"] == torch.float32 and kinds["query"] == torch.bfloat16


def test_it_computes_what_a_model_of_bfloat16_does(backbone: Path) -> None:
    """The oracle is the same model with its base cast for good."""
    model = build(backbone).eval()
    cast = copy.deepcopy(model)
    for parameter in cast.base_parameters():
        parameter.data = parameter.data.bfloat16()
    inputs = tiny.inputs("bert")
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), half_precision_base(model):
        assert torch.equal(model(**inputs).logits, cast(**inputs).logits)


class Look(TrainerCallback):
    """Notes the data types of the base and of the gradients of what trains, at each step and evaluation."""

    def __init__(self) -> None:
        self.base: set[torch.dtype] = set()
        self.trained: set[torch.dtype] = set()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self.base |= {parameter.dtype for parameter in model.base_parameters()}
        self.trained |= {parameter.grad.dtype for parameter in model.parameters() if parameter.requires_grad}

    def on_prediction_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self.base |= {parameter.dtype for parameter in model.base_parameters()}


@pytest.mark.parametrize("bf16", [True, False])
def test_a_trainer_halves_the_base_with_bf16(backbone: Path, tmp_path: Path, bf16: bool) -> None:
    model, look = build(backbone), Look()
    base = {name: values for name, values in state(model).items() if not name.startswith(("adapters.", "heads."))}
    done = trainer(backbone, tmp_path, model, bf16=bf16, eval_strategy="epoch", callbacks=[look])
    done.train()
    done.evaluate()
    assert look.base == {torch.bfloat16 if bf16 else torch.float32} and look.trained == {torch.float32}
    assert base and same(base, model.state_dict())


def modes(model: PreTrainedModel) -> dict[str, bool]:
    return {name: module.training for name, module in model.named_modules() if isinstance(module, nn.Dropout)}


@pytest.mark.parametrize("base_dropout", [True, False])
def test_a_base_without_dropout(backbone: Path, tmp_path: Path, base_dropout: bool) -> None:
    model = build(backbone, "seq_bn[reduction_factor=4, dropout=0.3]")
    seen: list[dict[str, bool]] = []
    model.base_model.register_forward_hook(lambda *_: seen.append(modes(model)))
    done = trainer(backbone, tmp_path, model, max_steps=3, eval_strategy="steps", eval_steps=1)
    done.base_dropout = base_dropout
    done.train()
    trained = [each for each in seen if any(each.values())]
    assert len(trained) == 3 and len(seen) > 3
    for each in trained:
        base = {name for name in each if not name.startswith("heads.")}
        assert all(each[name] is base_dropout for name in base)
        assert all(each[name] for name in set(each) - base) and set(each) - base
    assert not any(part.training for part in model.modules()), "the last that was done was to evaluate"
    done.args.eval_strategy = "no"
    done.train()
    assert all(part.training for part in model.modules())


def test_adapters_drop_while_the_base_does_not(backbone: Path) -> None:
    model = build(backbone, "seq_bn[reduction_factor=4, dropout=0.5]").train()
    for module in model.heads.modules():
        module.training = False
    stop_dropout(frozen_modules(model))
    inputs = tiny.inputs("bert")
    one, other = (model(**inputs).logits for _ in range(2))
    assert not torch.equal(one, other)
    for module in model.adapters.modules():
        module.training = False
    assert torch.equal(model(**inputs).logits, model(**inputs).logits)


def test_static_heads_drop_while_the_base_does_not() -> None:
    model = adapterhub.init(tiny.model("bert", "ForSequenceClassification")).train()
    assert isinstance(model, BertForSequenceClassification)
    model.add_adapter("a")
    model.train_adapter("a")
    stop_dropout(frozen_modules(model))
    assert model.dropout.training and not any(module.training for module in model.bert.modules())


def test_a_base_that_trains_keeps_its_dropout(backbone: Path) -> None:
    model = build(backbone).train()
    model.requires_grad_(True)
    stop_dropout(frozen_modules(model))
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_layers_stay_checkpointed(backbone: Path, reentrant: bool) -> None:
    """Otherwise their activations would be kept; gradients are the same either way."""

    def gradients(checkpointing: bool) -> tuple[int, list[Tensor]]:
        model = build(backbone).train()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        stop_dropout(frozen_modules(model))
        calls = []
        for layer in model.base_model.encoder.layer:
            layer.attention.register_forward_hook(lambda *_: calls.append(0))
        torch.manual_seed(0)
        with fast_dropout():
            model(**tiny.inputs("bert"), labels=torch.tensor([0, 1, 0])).loss.backward()
        return len(calls), [p.grad for p in model.parameters() if p.requires_grad and p.grad is not None]

    layers, plain = gradients(False)
    calls, again = gradients(True)
    assert calls > layers and len(plain) == len(again)
    for one, other in zip(plain, again, strict=True):
        torch.testing.assert_close(one, other)


def test_attention_of_short_rows_in_half_precision() -> None:
    """What takes the place of PyTorch's attention where that is slow gives the same, and so do its gradients."""
    from adapterhub.training import dropout

    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(2, 3, 5, 8, generator=generator).bfloat16().requires_grad_() for _ in range(3)]
    mask = torch.rand(2, 1, 5, 5, generator=generator) > 0.3
    mask[..., 0] = True
    assert dropout._is_slow(*parts) and not dropout._is_slow(*(part.float() for part in parts))
    for given in ({}, {"attn_mask": mask}, {"is_causal": True}):
        found, expected = [], []
        for function, into in ((dropout.scaled_dot_product_attention, found), (dropout._attention, expected)):
            result = function(*parts, **given)
            into += [result, *torch.autograd.grad(result.float().square().sum(), parts)]
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, atol=5e-2, rtol=5e-2)


@pytest.mark.parametrize("checkpointing", [None, False, True])
@pytest.mark.parametrize("bf16", [False, True])
def test_backward_stops_below_the_lowest_adapter(
    backbone: Path, tmp_path: Path, checkpointing: bool | None, bf16: bool
) -> None:
    """No tensor below it takes part in the backward pass, whatever else is switched on."""
    model = build(backbone, "seq_bn[reduction_factor=4, leave_out=[0]]")
    reached: dict[str, list[bool]] = {"embeddings": [], "0": [], "1": []}
    parts = {"embeddings": model.base_model.embeddings, "0": model.base_model.encoder.layer[0]}
    parts["1"] = model.base_model.encoder.layer[1]
    for name, part in parts.items():

        def note(module: nn.Module, given: Any, result: Any, name: str = name) -> None:
            result = result if isinstance(result, Tensor) else result[0]
            if model.training:
                reached[name].append(result.requires_grad)

        part.register_forward_hook(note)
    before = weights(model)
    changes: dict[str, Any] = {"max_steps": 2, "bf16": bf16}
    if checkpointing is not None:
        changes |= {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": checkpointing}}
    trainer(backbone, tmp_path, model, **changes).train()
    assert all(not torch.equal(before[name], values) for name, values in weights(model).items() if "adapters" in name)
    assert reached["1"] and all(reached["1"])
    if not checkpointing:  # reentrant checkpoints pass gradients on only where their inputs take part
        assert not any(reached["embeddings"] + reached["0"])


def test_backward_of_trained_embeddings_goes_down_to_them(backbone: Path) -> None:
    model = build(backbone, "seq_bn[reduction_factor=4, leave_out=[0]]")
    model.train_adapter("a", train_embeddings=True)
    model(**tiny.inputs("bert"), labels=torch.tensor([0, 1, 0])).loss.backward()
    assert model.get_input_embeddings().weight.grad is not None
