"""A model run from a layer on: the same as the whole model, gradients too, and never in silence something else."""

import copy
import pickle
from typing import Any

import pytest
import torch

import adapterhub
import tiny
from adapterhub import AdapterSetup, AutoAdapterModel, Parallel
from adapterhub.engine import Trunk
from adapterhub.errors import TrunkError

TOP = "seq_bn[reduction_factor=4,leave_out=[0,1]]"
LAYERS = {"distilbert": "n_layers", "gpt2": "n_layer"}
# Of these the layers hand on position biases, or there are two towers, or one layer runs many times.
REFUSED = ("t5", "mt5", "clip", "albert")


def deep(family: str, kind: str = "Model", config: str = TOP, **changes: Any) -> Any:
    """A model of four layers with an adapter whose values are no identity, active and to be trained."""
    name = LAYERS.get(family, "encoder_layers" if family in tiny.ENCODER_DECODERS else "num_hidden_layers")
    model = adapterhub.init(tiny.model(family, kind, **{name: 4} | changes))
    model.add_adapter("a", config=config)
    tiny.randomise(model, "a")
    model.train_adapter("a")
    return model.eval()


def first(output: Any) -> torch.Tensor:
    return next(value for value in output.to_tuple() if torch.is_tensor(value))


@pytest.mark.parametrize("family", [family for family in tiny.FAMILIES if family not in REFUSED])
def test_a_model_gives_the_same_from_a_layer_on(family: str) -> None:
    model, inputs = deep(family), tiny.inputs(family)
    wanted = first(model(**inputs))
    wanted.square().sum().backward()
    gradients = [parameter.grad.clone() for parameter in model.adapters.parameters()]
    model.zero_grad()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    with Trunk(model) as trunk:
        assert trunk.depth == 2
        states = trunk.states(**inputs)
        found = first(model(**inputs, trunk_states=states))
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
        found.square().sum().backward()
        torch.testing.assert_close(first(model(**inputs)), wanted)  # a whole pass between
    for parameter, gradient in zip(model.adapters.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not any("forward" in module.__dict__ for module in model.modules())


def test_nothing_of_the_trunk_is_computed() -> None:
    model, inputs = deep("bert"), tiny.inputs("bert")
    with Trunk(model) as trunk:
        states = trunk.states(**inputs)
        with torch.no_grad():
            for path in trunk.paths:
                for parameter in model.get_submodule(path).parameters(recurse=False):
                    parameter.fill_(float("nan"))
        assert not first(model(**inputs, trunk_states=states)).isnan().any()
        assert first(model(**inputs)).isnan().any()


def test_states_in_bfloat16_are_the_same_to_its_rounding() -> None:
    model, inputs = deep("bert"), tiny.inputs("bert")
    with Trunk(model) as trunk, torch.no_grad():
        states = trunk.states(**inputs)
        found = first(model(**inputs, trunk_states=states.bfloat16()))
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, first(model(**inputs)), atol=0.05, rtol=0.05)
        assert torch.equal(found, first(model(**inputs, trunk_states=states.bfloat16().float())))


def test_states_are_those_of_the_bare_base_in_evaluation_mode() -> None:
    model, inputs = deep("bert", hidden_dropout_prob=0.5), tiny.inputs("bert")
    model.set_active_adapters(None)
    wanted = model(**inputs, output_hidden_states=True).hidden_states[2]
    model.train_adapter("a")
    with Trunk(model) as trunk:
        before = torch.random.get_rng_state()
        torch.testing.assert_close(trunk.states(**inputs), wanted)
        assert torch.equal(torch.random.get_rng_state(), before)
    assert model.training and model.encoder.layer[0].training


@pytest.mark.parametrize(
    ("config", "depth"),
    [
        ("lora[r=2,leave_out=[0]]", 1),
        ("loreft[layers=[2]]", 3),  # which acts on what layer 2 gives
        ("prefix_tuning[leave_out=[0,1,2]]", 3),
        ("ia3[leave_out=[0,1,2]]", 3),
    ],
)
def test_the_depth_is_that_of_the_lowest_place_where_something_acts(config: str, depth: int) -> None:
    model, inputs = deep("bert", config=config), tiny.inputs("bert")
    with Trunk(model) as trunk, torch.no_grad():
        assert trunk.depth == depth
        found = first(model(**inputs, trunk_states=trunk.states(**inputs)))
        torch.testing.assert_close(found, first(model(**inputs)), atol=1e-5, rtol=0)


def test_without_an_adapter_all_layers_can_be_left_out() -> None:
    model, inputs = deep("bert"), tiny.inputs("bert")
    model.set_active_adapters(None)
    with Trunk(model) as trunk, torch.no_grad():
        assert trunk.depth == 4
        torch.testing.assert_close(first(model(**inputs, trunk_states=trunk.states(**inputs))), first(model(**inputs)))


@pytest.mark.parametrize("config", ["seq_bn[reduction_factor=4]", "prompt_tuning", "seq_bn_inv[leave_out=[0,1]]"])
def test_an_adapter_at_the_bottom_leaves_no_trunk(config: str) -> None:
    model = deep("bert", config=config)
    with pytest.raises(TrunkError, match="no layer can be left out"):
        Trunk(model)
    assert not any("forward" in module.__dict__ for module in model.modules())


@pytest.mark.parametrize(
    ("family", "message"),
    [("t5", "hands on more than hidden states"), ("clip", "towers"), ("albert", "does not run once")],
)
def test_models_that_cannot_run_from_a_layer_on_are_refused(family: str, message: str) -> None:
    model = adapterhub.init(tiny.model(family))
    with pytest.raises(TrunkError, match=message):
        Trunk(model)


def test_a_model_whose_upper_layers_read_more_is_refused() -> None:
    model = deep("bert")

    class Skipping(type(model.encoder.layer[3])):  # type: ignore[misc]
        """A layer that reads what the embeddings gave, too."""

        def forward(self, hidden: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            return super().forward(hidden + model.first, *args, **kwargs)

    model.encoder.layer[0].register_forward_pre_hook(lambda module, args: setattr(model, "first", args[0]))
    model.encoder.layer[3].__class__ = Skipping
    with pytest.raises(TrunkError, match="from layer 2 on"):
        Trunk(model)


def test_what_does_not_fit_is_refused() -> None:
    model, inputs = deep("bert"), tiny.inputs("bert")
    with pytest.raises(TrunkError, match="no trunk is in use"):
        model(**inputs, trunk_states=torch.zeros(3, 7, 32))
    with pytest.raises(TrunkError, match="acts below layer 3"):
        Trunk(model, depth=3)
    with Trunk(model) as trunk:
        states = trunk.states(**inputs)
        for wrong in (states[:2], states[..., :16], states[0]):
            with pytest.raises(TrunkError):
                model(**inputs, trunk_states=wrong)
        with pytest.raises(TrunkError, match="output_hidden_states"):
            model(**inputs, trunk_states=states, output_hidden_states=True)
        model.add_adapter("low", config="seq_bn[reduction_factor=4]")
        model.set_active_adapters("low")
        with pytest.raises(TrunkError, match="acts below layer 2"):
            model(**inputs, trunk_states=states)
        model.set_active_adapters("a")
        with pytest.raises(TrunkError, match="in use already"), Trunk(model, depth=1):
            pass
    model.encoder.layer[0].requires_grad_(True)
    with Trunk(model), pytest.raises(TrunkError, match="is to be trained"):
        model(**inputs, trunk_states=states)
    with Trunk(model), torch.no_grad():
        model(**inputs, trunk_states=states)


def test_a_parallel_repeats_the_rows_above_the_trunk() -> None:
    model, inputs = deep("bert"), tiny.inputs("bert")
    model.add_adapter("b", config="seq_bn[reduction_factor=4,leave_out=[0,1,2]]")
    with Trunk(model) as trunk, torch.no_grad():
        states = trunk.states(**inputs)
        with AdapterSetup(Parallel("a", "b")):
            wanted, found = model(**inputs), model(**inputs, trunk_states=states)
        torch.testing.assert_close(first(found), first(wanted), atol=1e-5, rtol=0)
        assert len(first(found)) == 2 * len(states)


def test_a_head_of_transformers_and_a_flexible_one_run_on_kept_states() -> None:
    inputs = tiny.inputs("bert") | {"labels": torch.tensor([0, 1, 0])}
    model = deep("bert", "ForSequenceClassification")
    flexible = AutoAdapterModel.from_config(tiny.config("bert", num_hidden_layers=4)).eval()
    flexible.add_adapter("a", config=TOP)
    flexible.add_classification_head("a", num_labels=2)
    flexible.set_active_adapters("a")
    for one in (model, flexible):
        one.requires_grad_(False)
        with Trunk(one) as trunk:
            found = one(**inputs, trunk_states=trunk.states(**inputs))
            torch.testing.assert_close(found.loss, one(**inputs).loss)


def test_a_decoder_hands_out_no_cache_that_lacks_layers() -> None:
    model, inputs = deep("llama", "ForCausalLM"), tiny.inputs("llama")
    with Trunk(model) as trunk, torch.no_grad():
        states = trunk.states(**inputs)
        assert model(**inputs, trunk_states=states).past_key_values is None
        cache = model(**inputs).past_key_values
        with pytest.raises(TrunkError, match="past_key_values"):
            model(**inputs, trunk_states=states, past_key_values=cache)


def test_gradient_checkpointing_compiling_and_copies_keep_working() -> None:
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model, inputs = deep("bert", **still), tiny.inputs("bert")
    wanted = first(model(**inputs))
    with Trunk(model) as trunk:
        states = trunk.states(**inputs)
        twin = pickle.loads(pickle.dumps(copy.deepcopy(model)))
        torch.testing.assert_close(first(twin(**inputs, trunk_states=states)), wanted)
        compiled = torch.compile(model, backend="eager")
        torch.testing.assert_close(first(compiled(**inputs, trunk_states=states)), wanted)
        torch.testing.assert_close(first(compiled(**inputs)), wanted)
        model.gradient_checkpointing_enable()
        model.train()
        first(model(**inputs, trunk_states=states)).square().sum().backward()
    again = {name: parameter.grad.clone() for name, parameter in model.adapters.named_parameters()}
    model.zero_grad()
    first(model(**inputs)).square().sum().backward()
    for name, parameter in model.adapters.named_parameters():
        torch.testing.assert_close(parameter.grad, again[name])


def test_the_fingerprint_tells_trunks_apart_and_nothing_else() -> None:
    model = deep("bert")
    own = Trunk(model).fingerprint()
    with torch.no_grad():
        model.encoder.layer[3].output.dense.weight.add_(1)
    assert Trunk(model).fingerprint() == own == Trunk(deep("bert")).fingerprint()
    assert Trunk(model, depth=1).fingerprint() != own
    with torch.no_grad():
        model.embeddings.word_embeddings.weight[5, 3] += 1e-3
    assert Trunk(model).fingerprint() != own
