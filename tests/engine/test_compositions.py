"""Compositions over any method and model, against each row run alone and against their meaning."""

import copy
import pickle
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from transformers import PreTrainedModel

import adapterhub
import tiny
from adapterhub import AdapterSetup
from adapterhub.composition import Average, BatchSplit, Composition, Fuse, MultiTask, Parallel, Rows, Split, Stack
from adapterhub.errors import AdapterNotFoundError, CompositionError

METHODS = {
    "a": "double_seq_bn[reduction_factor=4, cross_adapter=True]",
    "b": "seq_bn[reduction_factor=8]",
    "c": "lora[r=4, alpha=8, attn_matrices=[q, k, v, o], intermediate_lora=True, output_lora=True]",
    "d": "ia3",
    "e": "dora[r=2, attn_matrices=[q, v], leave_out=[0]]",
    "f": "par_bn[reduction_factor=4, leave_out=[0]]",
    "h": "vera[r=4, output_lora=True]",
    "i": "seq_bn_inv[reduction_factor=4]",
    "j": "ln_tuning",
}
FAMILIES = ("bert", "gpt2", "llama", "t5", "bart", "deberta-v2")
# Fusions are trained beforehand: a few stand ready.
FUSIONS = (Fuse("a", "b"), Fuse("a", "c", "d", name="three"), Fuse(Stack("b", "c"), "f"))


def prepared(family: str) -> PreTrainedModel:
    """A model with an adapter of every kind, with values that change what it gives."""
    model = adapterhub.init(tiny.model(family))
    for name, method in METHODS.items():
        model.add_adapter(name, config=method)
    for fuse in FUSIONS:
        model.add_adapter_fusion(fuse)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in (*model.adapters.parameters(), *model.fusions.parameters()):
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.double().eval()  # in double precision, so that what differs is wrong


MODELS = {family: prepared(family) for family in FAMILIES}


def run(model: PreTrainedModel, setup: Any, rows: list[int], family: str, **kwargs: Any) -> Tensor:
    """What the model gives for some rows of the inputs under a setup."""
    inputs = tiny.inputs(family, batch=4)
    with torch.no_grad(), AdapterSetup(setup):
        output = model(**{name: value[rows] for name, value in inputs.items()}, **kwargs)
    return output.last_hidden_state


def hidden(model: PreTrainedModel, family: str, setup: Any, **kwargs: Any) -> Tensor:
    return run(model, setup, [0, 1, 2, 3], family, **kwargs)


def at_first_layer(model: PreTrainedModel, setup: Any, family: str = "bert") -> Tensor:
    """What comes out of the first feed-forward under a setup, before it is added."""
    caught: list[Tensor] = []
    module = model.get_submodule(next(s for s in model.sites.sublayers if s.kind == "feed_forward").output_at)
    with AdapterSetup(setup):
        model.engine.enter()
        handle = module.register_forward_hook(lambda module, args, output: caught.append(output))
        hidden(model, family, setup)
        handle.remove()
    return caught[-1]


@pytest.mark.parametrize("weights", [None, [3.0, 1.0]])
def test_average_is_the_mean_of_what_each_gives(weights: list[float] | None) -> None:
    model = MODELS["bert"]
    given = [at_first_layer(model, name) for name in ("b", "f")]
    bare = at_first_layer(model, "e")  # acts nowhere in the first layer
    first, second = weights or [1.0, 1.0]
    wanted = (first * given[0] + second * bare) / (first + second)
    mean = at_first_layer(model, Average("b", "f", weights=weights))
    torch.testing.assert_close(given[1], bare)
    torch.testing.assert_close(mean, wanted)


def test_average_of_lora_is_the_mean_of_merged_weights() -> None:
    model = adapterhub.init(tiny.model("bert")).double()
    for name in "ab":
        model.add_adapter(name, config="lora[r=2, alpha=6]")
        torch.nn.init.normal_(next(iter(model.adapters[name].at("layers.0.attention.q").parameters())))
    model.double()
    with torch.no_grad():
        for parameter in model.adapters.parameters():
            parameter.normal_()
    module = model.get_submodule("encoder.layer.0.attention.self.query")
    own = module.weight.detach().clone()
    merged = []
    for name in "ab":
        model.merge_adapter(name)
        merged.append({path: p.detach().clone() for path, p in model.named_parameters() if "adapters." not in path})
        model.reset_adapter()
    assert torch.equal(module.weight, own)
    average = hidden(model, "bert", Average("a", "b", weights=[1, 3]))
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            if "adapters." not in path:
                parameter.copy_(0.25 * merged[0][path] + 0.75 * merged[1][path])
    torch.testing.assert_close(average, hidden(model, "bert", None))


def test_a_weight_reads_what_a_stack_made_of_its_input() -> None:
    """(IA)3 before LoRA is that of the merged weight; after another block it goes on from what that made."""
    model = adapterhub.init(tiny.model("gpt2")).double()
    model.add_adapter("d", config="ia3[target_modules=['mlp.c_proj'], feedforward_modules=['mlp.c_proj']]")
    model.add_adapter("c", config="lora[r=2, output_lora=True]")
    with torch.no_grad():
        for parameter in model.adapters.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    model.double()
    twice = hidden(model, "gpt2", Stack("d", "d"))
    stacked, beside = hidden(model, "gpt2", Stack("d", "c")), hidden(model, "gpt2", Stack(Parallel("c", "d"), "d"))
    torch.testing.assert_close(beside[4:], twice)
    model.merge_adapter("c")
    torch.testing.assert_close(stacked, hidden(model, "gpt2", "d"))


def test_one_row_under_a_parallel_shares_its_table_of_positions() -> None:
    model = MODELS["deberta-v2"]
    both = run(model, Parallel("a", "b"), [0], "deberta-v2")
    torch.testing.assert_close(both, torch.cat([run(model, name, [0], "deberta-v2") for name in "ab"]))


def test_weights_that_are_not_normalised_weigh_the_change() -> None:
    model = MODELS["bert"]
    bare, a = at_first_layer(model, "e"), at_first_layer(model, "b")
    doubled = at_first_layer(model, Average("b", weights=[2.0], normalize_weights=False))
    torch.testing.assert_close(doubled, bare + 2 * (a - bare))


def test_split_gives_each_adapter_its_positions() -> None:
    model = MODELS["bert"]
    a, b = at_first_layer(model, "b"), at_first_layer(model, Stack("b", "b"))
    split = at_first_layer(model, Split("b", Stack("b", "b"), splits=[2, 3]))
    torch.testing.assert_close(split[:, :2], a[:, :2])
    torch.testing.assert_close(split[:, 2:], b[:, 2:])


def test_parallel_runs_the_layers_below_the_first_adapter_once() -> None:
    model = MODELS["bert"]
    rows: list[int] = []
    handles = [
        model.get_submodule(layer.path).register_forward_hook(lambda module, args, output: rows.append(len(output)))
        for layer in model.sites.layers
    ]
    hidden(model, "bert", Parallel("e", "f", Stack("e", "f")))  # these act in the last layer alone
    for handle in handles:
        handle.remove()
    assert rows == [4, 12]


@pytest.mark.parametrize("family", ["bert", "bart"])
@pytest.mark.parametrize("names", [("i", "b"), ("b", "f")])  # of which the first pair acts on embeddings too
def test_parallel_on_the_base_of_a_head_model_called_by_itself(family: str, names: tuple[str, str]) -> None:
    model = adapterhub.init(tiny.model(family, "ForSequenceClassification"))
    for name in names:
        model.add_adapter(name, config=adapterhub.load_config(METHODS[name], leave_out=(0,)))
    with torch.no_grad():
        for parameter in model.adapters.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    base = model.double().eval().base_model
    for rows in (4, 2, 3):  # one call knows nothing of the one before
        inputs = tiny.inputs(family, batch=rows)
        given = Rows([names[row % 2] for row in range(rows)])
        model.set_active_adapters(Stack(given, Parallel(*names)))
        with torch.no_grad():
            beside = base(**inputs).last_hidden_state.unflatten(0, (2, rows))
        for row, under in enumerate(given):
            model.set_active_adapters(Parallel(*(Stack(under, name) for name in names)))
            with torch.no_grad():
                alone = base(**{key: value[row : row + 1] for key, value in inputs.items()}).last_hidden_state
            torch.testing.assert_close(beside[:, row], alone)
        model.set_active_adapters(given)
        with torch.no_grad():
            by_row = base(**inputs).last_hidden_state
        model.set_active_adapters(given[1])
        with torch.no_grad():
            torch.testing.assert_close(by_row[1], base(**inputs).last_hidden_state[1])
        model.set_active_adapters(Parallel(*names))
        with torch.no_grad():
            together = base(**inputs).last_hidden_state
        for name, own in zip(names, together.split(rows), strict=True):
            model.set_active_adapters(name)
            with torch.no_grad():
                torch.testing.assert_close(own, base(**inputs).last_hidden_state)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_hook_stays_behind(family: str) -> None:
    model = MODELS[family]
    before = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    for setup in (Parallel("a", "f"), Rows(["a", None, "b", "c"]), Stack("d", Fuse("a", "b"))):
        hidden(model, family, setup)
    assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()) == before


@pytest.mark.parametrize(
    ("setup", "named"),
    [
        (lambda: Average("a", Parallel("b", "c")), "Parallel"),
        (lambda: Rows([Parallel("a", "b"), "c"]), r"Parallel\('a', 'b'\) cannot stand in Rows"),
        (lambda: BatchSplit(Parallel("a", "b"), "c", batch_sizes=1), "cannot stand in BatchSplit"),
        (lambda: MultiTask("a", Stack("c", Parallel("a", "b"))), "cannot stand in MultiTask"),
        (lambda: Stack(Parallel("a", "b"), Parallel("a", "b", "c")), "2 results"),
        (lambda: BatchSplit("a", Rows(["a", "b", "c"]), batch_sizes=[1, 2]), "3 rows"),
        (lambda: Stack(Rows(["a", "b"]), Rows(["a", "b", "c"])), "2 rows"),
        (lambda: MultiTask("a", Rows(["a", "b"])), "task_ids"),
        (lambda: Split("a", "b", splits=[1, 2, 3]), "3 splits"),
        (lambda: BatchSplit("a", "b", batch_sizes=0), "at least 1"),
        (lambda: Average("a", "b", weights=[1]), "1 weights"),
        (lambda: Average("a", "b", weights=[1, -1]), "add up to 0"),
        (lambda: Rows([None, None]), "at least one adapter"),
    ],
)
def test_what_has_no_meaning_is_refused(setup: Any, named: str) -> None:
    with pytest.raises(CompositionError, match=named):
        setup()


def test_a_setup_that_cannot_run_leaves_the_active_one(model: PreTrainedModel) -> None:
    model.set_active_adapters("a")
    for wrong, error in (
        (Fuse("a", "f"), AdapterNotFoundError),
        (Stack("a", "x"), AdapterNotFoundError),
        (Average("a", "g"), CompositionError),
    ):
        with pytest.raises(error):
            model.set_active_adapters(wrong)
        assert model.active_adapters == Stack("a")


@pytest.fixture
def model() -> PreTrainedModel:
    made = copy.deepcopy(MODELS["bert"])
    made.add_adapter("g", config="adapter_plus[reduction_factor=4]")
    return made


@pytest.mark.parametrize("setup", [Rows(["a", "b"]), BatchSplit("a", "b", batch_sizes=[4, 1])])
def test_another_number_of_rows_is_refused(setup: Composition) -> None:
    with pytest.raises(CompositionError, match="4"):
        hidden(MODELS["bert"], "bert", setup)


@pytest.mark.parametrize("tasks", [None, [0, 1], [0, 1, 2, 0], [-1, 0, 0, 0]])
def test_tasks_that_do_not_fit_are_refused(tasks: Any) -> None:
    with pytest.raises(CompositionError, match="task_ids"):
        hidden(MODELS["bert"], "bert", MultiTask("a", "b"), **({} if tasks is None else {"task_ids": tasks}))


SETUPS = (
    Rows(["a", None, Stack("b", "c"), Average("a", "c")]),
    BatchSplit("a", Split("b", "c", splits=2), batch_sizes=[1, 3]),
    Stack(Rows(["a", None, "b", "a"]), Parallel("b", Stack("a", "c"))),
    Stack("c", Fuse("a", "b")),
)


@pytest.mark.parametrize("setup", SETUPS, ids=lambda setup: type(setup).__name__)
def test_a_copy_and_a_pickle_are_the_same(setup: Composition) -> None:
    model = copy.deepcopy(MODELS["bert"])
    model.set_active_adapters(setup)
    inputs = tiny.inputs("bert", batch=4)
    wanted = model(**inputs).last_hidden_state
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        for parameter in model.adapters.parameters():
            parameter.data.zero_()
        torch.testing.assert_close(other(**inputs).last_hidden_state, wanted, rtol=0, atol=0)
        model.load_state_dict(other.state_dict())


@pytest.mark.parametrize("setup", [*SETUPS, Stack("d", "e")], ids=lambda setup: type(setup).__name__)
@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_compiles_without_graph_breaks(family: str, setup: Composition) -> None:
    torch.compiler.reset()
    model = copy.deepcopy(MODELS[family]).float()
    model.set_active_adapters(setup)
    inputs = tiny.inputs(family, batch=4)
    with torch.no_grad():
        wanted = model(**inputs).last_hidden_state
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(**inputs).last_hidden_state, wanted)


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("setup", [*SETUPS, MultiTask("a", "b")], ids=lambda setup: type(setup).__name__)
def test_gradient_checkpointing_gives_the_same_gradients(setup: Composition, use_reentrant: bool) -> None:
    found = []
    for checkpointing in (False, True):
        model = copy.deepcopy(MODELS["bert"]).train()
        if checkpointing:
            model.enable_input_require_grads()
            model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        tasks = {"task_ids": [0, 1, 1, 0]} if isinstance(setup, MultiTask) else {}
        with AdapterSetup(setup):
            output = model(**tiny.inputs("bert", batch=4), **tasks).last_hidden_state
        output.square().sum().backward()
        assert model.engine.call.task_ids is None  # what is recomputed leaves nothing behind
        parameters = (*model.adapters.named_parameters(), *model.fusions.named_parameters())
        found.append({path: p.grad for path, p in parameters if p.grad is not None})
    assert found[0].keys() == found[1].keys() and found[0]
    for path, gradient in found[0].items():
        torch.testing.assert_close(found[1][path], gradient)


def test_a_compiled_model_follows_the_setup() -> None:
    torch.compiler.reset()
    model = copy.deepcopy(MODELS["bert"]).float()
    inputs = tiny.inputs("bert", batch=4)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    for setup in (
        Rows(["a", "b", "b", "a"]),
        Rows(["b", "a", "a", "b"]),
        Average("a", "b"),
        Average("a", "b", weights=[1, 2]),
    ):
        model.set_active_adapters(setup)
        with torch.no_grad():
            torch.testing.assert_close(compiled(**inputs).last_hidden_state, model(**inputs).last_hidden_state)


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize("family", ["gpt2", "llama", "t5", "bart"])
@pytest.mark.parametrize(
    "setup",
    [
        Rows(["a", None, Stack("b", "c"), "b"]),
        Rows(["i", None, Stack("i", "a"), "h"]),
        BatchSplit("a", "c", batch_sizes=[3, 1]),
        MultiTask("a", "b"),
        Split("a", "c", splits=3),
        Average("a", Stack("b", "c")),
        Fuse("a", "b"),
    ],
    ids=lambda setup: type(setup).__name__,
)
def test_generates_what_each_row_alone_would(setup: Composition, family: str, beams: int) -> None:
    model = GENERATING[family]
    options = {"max_new_tokens": 6, "do_sample": False, "num_beams": beams, "eos_token_id": 98, "pad_token_id": 0}
    inputs = tiny.inputs(family, batch=4)
    inputs = {name: value for name, value in inputs.items() if name == "input_ids"}
    tasks = [1, 0, 0, 1]
    by_task = {"task_ids": tasks} if isinstance(setup, MultiTask) else {}
    with AdapterSetup(setup):
        together = model.generate(**inputs, **options, **by_task)
    for row in range(4):
        own: Any = setup
        if isinstance(setup, (Rows, MultiTask)):
            own = setup[row if isinstance(setup, Rows) else tasks[row]]
        elif isinstance(setup, BatchSplit):
            own = "a" if row < 3 else "c"
        with AdapterSetup(own):
            alone = model.generate(inputs["input_ids"][row : row + 1], **options)[0]
        assert together[row, : len(alone)].tolist() == alone.tolist()


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_parallel_generates_for_every_channel(family: str, beams: int) -> None:
    model = GENERATING[family]
    options = {"max_new_tokens": 6, "do_sample": False, "num_beams": beams, "eos_token_id": 98, "pad_token_id": 0}
    ids = tiny.inputs(family, batch=3)["input_ids"]
    with AdapterSetup(Parallel("a", "b")):
        together = model.generate(ids, **options)
    for channel, name in enumerate("ab"):
        with AdapterSetup(name):
            alone = model.generate(ids, **options)
        own = together[3 * channel : 3 * channel + 3]
        assert own[:, : alone.shape[1]].tolist() == alone.tolist()


def generating(family: str) -> PreTrainedModel:
    kind = (
        "ForConditionalGeneration"
        if family in tiny.ENCODER_DECODERS
        else "LMHeadModel"
        if family == "gpt2"
        else "ForCausalLM"
    )
    model = adapterhub.init(tiny.model(family, kind))
    model.load_state_dict(MODELS[family].state_dict(), strict=False)
    for adapter in MODELS[family].adapters.values():
        model.engine.hold(copy.deepcopy(adapter))
    for fusion in MODELS[family].fusions.values():
        model.engine.hold_fusion(copy.deepcopy(fusion))
    return model.double().eval()


GENERATING = {family: generating(family) for family in ("gpt2", "llama", "t5", "bart")}


SEQUENCE_FIRST: dict[str, Any] = {
    "XLNet": {"vocab_size": 99, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 37},
    "FSMT": {
        "langs": ["a", "b"],
        "src_vocab_size": 99,
        "tgt_vocab_size": 99,
        "d_model": 32,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 37,
        "decoder_ffn_dim": 37,
    },
}


@pytest.mark.parametrize("name", SEQUENCE_FIRST)
def test_models_whose_layers_take_the_sequence_first(name: str) -> None:
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**SEQUENCE_FIRST[name])
    model = adapterhub.init(getattr(transformers, f"{name}Model")(config))
    assert not model.sites.batch_first
    methods = ("seq_bn[reduction_factor=4, use_gating=True]", "double_seq_bn[reduction_factor=4]", "loreft[r=2]")
    for adapter, method in zip("abc", methods, strict=True):
        model.add_adapter(adapter, config=method)
    with torch.no_grad():
        for parameter in model.adapters.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    model.double().eval()
    inputs = {"input_ids": torch.randint(3, 98, (4, 6))}
    if name == "FSMT":
        inputs["decoder_input_ids"] = torch.randint(3, 98, (4, 4))

    def output(setup: Any, rows: slice = slice(None)) -> Tensor:
        with torch.no_grad(), AdapterSetup(setup):
            return model(**{key: value[rows] for key, value in inputs.items()})[0]

    rows = ["a", None, Stack("b", "c"), Average("a", "b")]
    together = output(Rows(rows))
    for row, own in enumerate(rows):
        torch.testing.assert_close(together[row : row + 1], output(own, slice(row, row + 1)))
    both = output(Parallel("a", Split("b", "c", splits=2)))
    torch.testing.assert_close(both, torch.cat((output("a"), output(Split("b", "c", splits=2)))))
