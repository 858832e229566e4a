"""Banks: a row of a batch gives what it gives under an adapter that holds the values of its slot."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounter

import adapterhub
import tiny
from adapterhub import AdapterSetup
from adapterhub.composition import Composition, Parallel, Rows, Split, Stack
from adapterhub.engine import Bank
from adapterhub.errors import AdapterExistsError, CompositionError, ConfigError, TensorMismatchError
from adapterhub.methods import load_config

METHODS = (
    "seq_bn",
    "double_seq_bn[use_gating=True, ln_before=True]",
    "scaled_par_bn",
    "houlsby_2019",
    "compacter[reduction_factor=4]",
    "seq_bn_inv",
    "lora[attn_matrices=[q, v], intermediate_lora=True]",
    "lora[attn_matrices=[q], bias=True, use_gating=True]",
    "lora[target_modules=[word_embeddings]]",
    "dora",
    "mtl_lora",
    "vera",
    "ia3",
    "bitfit",
    "ln_tuning",
    "loreft",
    "prefix_tuning[prefix_length=3, bottleneck_size=8]",
    "prompt_tuning[prompt_length=2]",
    "mam",
)
SLOTS = {"a": 1, "b": 4, "c": 5}  # adapters, and the slots that hold their values


def prepared(method: str, family: str = "bert", kind: str = "Model") -> tuple[Any, Bank]:
    """A model with adapters and, in double precision, a bank of their values."""
    model = adapterhub.init(tiny.model(family, kind))
    bank = model.engine.add_bank("bank", load_config(method), capacity=6, dtype=torch.float64)
    for name, slot in SLOTS.items():
        model.add_adapter(name, config=method)
        torch.manual_seed(slot)
        with torch.no_grad():
            for parameter in model.adapters[name].parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        model.double().eval()
        bank.put(slot, model.adapters[name].state_dict())
    return model, bank


def run(model: Any, setup: Any, inputs: dict[str, Tensor], **options: Any) -> Tensor:
    with torch.no_grad(), AdapterSetup(setup):
        return model(**inputs, **options).last_hidden_state


@pytest.mark.parametrize("method", METHODS)
def test_a_row_gives_what_it_gives_under_the_adapter_of_its_slot(method: str) -> None:
    model, bank = prepared(method)
    inputs = tiny.inputs("bert", batch=4)
    alone = {name: run(model, name, inputs) for name in (*SLOTS, None)}
    mixed = torch.stack([alone["a"][0], alone["c"][1], alone[None][2], alone["b"][3]])
    torch.testing.assert_close(run(model, "bank", inputs, adapter_slots=[1, 5, -1, 4]), mixed, rtol=1e-6, atol=1e-8)
    for name, slot in SLOTS.items():
        bank.active = slot
        torch.testing.assert_close(run(model, "bank", inputs), alone[name], rtol=1e-6, atol=1e-8)
        same = run(model, "bank", inputs, adapter_slots=torch.full((4,), slot))
        torch.testing.assert_close(same, alone[name], rtol=1e-6, atol=1e-8)
    bank.active = None
    torch.testing.assert_close(run(model, "bank", inputs), alone[None])


SETUPS: list[tuple[Composition, Any]] = [
    (Stack("a", "bank"), lambda row: Stack("a", row)),
    (Split("bank", "a", splits=3), lambda row: Split(row, "a", splits=3)),
    (Parallel("bank", "a"), lambda row: Parallel(row, "a")),
    (Parallel("bank", Stack("a", "bank")), lambda row: Parallel(row, Stack("a", row))),
]


@pytest.mark.parametrize(("setup", "of_row"), SETUPS, ids=[repr(setup) for setup, _ in SETUPS])
def test_a_bank_stands_in_a_composition_as_an_adapter_does(setup: Composition, of_row: Any) -> None:
    model, _ = prepared("seq_bn")
    inputs = tiny.inputs("bert", batch=3)
    together = run(model, setup, inputs, adapter_slots=[4, 1, 4]).unflatten(0, (-1, 3))
    for row, name in enumerate("bab"):
        alone = run(model, of_row(name), {key: value[row : row + 1] for key, value in inputs.items()})
        torch.testing.assert_close(together[:, row], alone, rtol=1e-6, atol=1e-8)


def test_rows_that_a_composition_divides_keep_their_slots() -> None:
    model, _ = prepared("lora")
    inputs = tiny.inputs("bert", batch=3)
    together = run(model, Rows(["bank", "a", Stack("a", "bank")]), inputs, adapter_slots=[5, -1, 4])
    alone = run(model, Rows(["c", "a", Stack("a", "b")]), inputs)
    torch.testing.assert_close(together, alone, rtol=1e-6, atol=1e-8)


def test_several_banks_are_told_apart_by_their_names() -> None:
    model, bank = prepared("seq_bn")
    other = model.engine.add_bank("other", load_config("lora"), capacity=1, dtype=torch.float64)
    model.add_adapter("low", config="lora")
    torch.nn.init.normal_(model.adapters["low"].at("layers.0.attention.q").lora_B)
    model.double()
    other.put(0, model.adapters["low"].state_dict())
    inputs = tiny.inputs("bert", batch=3)
    both = Stack("bank", "other")
    mixed = run(model, both, inputs, adapter_slots={"bank": [1, -1, -1], "other": [-1, 0, -1]})
    torch.testing.assert_close(mixed, run(model, Rows(["a", "low", None]), inputs))
    bank.active = 4
    by_default = run(model, both, inputs, adapter_slots={"other": 0})
    torch.testing.assert_close(by_default, run(model, Stack("b", "low"), inputs))
    with pytest.raises(CompositionError, match="banks bank, other"):
        run(model, both, inputs, adapter_slots=[0, 0, 0])


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("method", ["lora", "prompt_tuning[prompt_length=2]"])
def test_rows_are_generated_as_if_alone(beams: int, method: str) -> None:
    model, _ = prepared(method, "llama", "ForCausalLM")
    ids = tiny.inputs("llama", batch=3)["input_ids"]
    options = {"max_new_tokens": 5, "num_beams": beams, "do_sample": False, "pad_token_id": 0, "eos_token_id": 98}
    with AdapterSetup("bank"):
        together = model.generate(ids, adapter_slots=[5, 1, 4], **options)
    for row, name in enumerate("cab"):
        with AdapterSetup(name):
            alone = model.generate(ids[row : row + 1], **options)
        assert together[row, : alone.shape[1]].tolist() == alone[0].tolist()


@pytest.mark.parametrize("method", ["seq_bn", "dora"])
def test_what_is_compiled_stays_so_whatever_slots_are_used(method: str) -> None:
    model, bank = prepared(method)
    inputs = tiny.inputs("bert", batch=3)
    torch._dynamo.reset()
    counter = CompileCounter()
    compiled = torch.compile(model, backend=counter, fullgraph=True)
    wanted = {slot: run(model, name, inputs) for name, slot in SLOTS.items()}
    model.set_active_adapters("bank")
    with torch.no_grad():
        for slot, alone in wanted.items():
            bank.active = slot
            torch.testing.assert_close(compiled(**inputs).last_hidden_state, alone, rtol=1e-6, atol=1e-8)
        assert counter.frame_count == 1
        for mix in ([5, 1, 4], [1, 1, 4], [4, 4, 4]):
            found = compiled(**inputs, adapter_slots=torch.tensor(mix)).last_hidden_state
            alone = torch.stack([wanted[slot][row] for row, slot in enumerate(mix)])
            torch.testing.assert_close(found, alone, rtol=1e-6, atol=1e-8)
    assert counter.frame_count == 2


def test_values_go_in_and_come_out_and_stay_when_it_grows() -> None:
    model, bank = prepared("seq_bn")
    inputs = tiny.inputs("bert", batch=2)
    model.set_active_adapters("bank")
    wanted = {path: value.clone() for path, value in model.adapters["b"].state_dict().items()}
    assert bank.filled == set(SLOTS.values()) and bank.slot_bytes == sum(one.nbytes for one in wanted.values())
    bank.grow(20)
    bank.put(19, wanted)
    assert bank.capacity == 20 and bank.tensors(4).keys() == wanted.keys()
    assert all(torch.equal(bank.tensors(slot)[path], one) for slot in (4, 19) for path, one in wanted.items())
    with torch.no_grad():
        found = model(**inputs, adapter_slots=[19, 1]).last_hidden_state
    torch.testing.assert_close(found, run(model, Rows(["b", "a"]), inputs))
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        twin.engine.banks["bank"].put(19, model.adapters["a"].state_dict())
        twin.set_active_adapters("bank")
        with torch.no_grad():
            assert not torch.equal(twin(**inputs, adapter_slots=[19, 1]).last_hidden_state[0], found[0])
            torch.testing.assert_close(model(**inputs, adapter_slots=[19, 1]).last_hidden_state, found)


def test_what_does_not_fit_is_refused_and_changes_nothing() -> None:
    model, bank = prepared("seq_bn")
    inputs = tiny.inputs("bert", batch=2)
    before = {path: value.clone() for path, value in bank.tensors(1).items()}
    path = next(iter(before))
    wrong = {**{name: value + 1 for name, value in before.items()}, path: torch.zeros(3), "more": torch.zeros(1)}
    with pytest.raises(TensorMismatchError, match=rf"{path} is \(3,\).*more is not wanted"):
        bank.put(1, wrong)
    assert all(torch.equal(value, before[name]) for name, value in bank.tensors(1).items())
    with pytest.raises(CompositionError, match="slots 0 to 5"):
        bank.put(6, before)
    with pytest.raises(CompositionError, match="no adapter in slot 0"):
        bank.active = 0
    for slots, message in (([1], "1 rows"), ([1, 0], "no adapter in slot 0"), ([1, -2], "not -2"), ({"x": 1}, "x")):
        with pytest.raises(CompositionError, match=message):
            run(model, "bank", inputs, adapter_slots=slots)
    with pytest.raises(CompositionError, match="has the banks none"):
        run(model, "a", inputs, adapter_slots=[1, 1])
    for make, error in (
        (lambda: model.add_adapter("bank"), AdapterExistsError),
        (lambda: model.engine.add_bank("a", load_config("seq_bn"), 1), AdapterExistsError),
        (lambda: model.engine.add_bank("n", load_config("seq_bn"), 0), ConfigError),
        (lambda: bank.grow(3), ConfigError),
    ):
        with pytest.raises(error):
            make()
    model.set_active_adapters("bank")
    bank.active = 5
    bank.clear(5)
    assert bank.active is None and bank.filled == {1, 4}
    model.engine.delete_bank("bank")
    assert model.active_adapters is None and "bank" not in model.engine.banks


def test_a_bank_is_no_part_of_the_model_and_moves_nothing_random() -> None:
    model = adapterhub.init(tiny.model("bert", "Model"))
    keys = list(model.state_dict())
    state = torch.get_rng_state()
    model.engine.add_bank("bank", load_config("seq_bn"), capacity=2)
    assert list(model.state_dict()) == keys and torch.equal(torch.get_rng_state(), state)
