"""Compositions drawn at random: each row of each channel against the same row run alone under what is left of it."""

import os
from typing import Any

import torch
from hypothesis import HealthCheck, given, note, reject, settings
from hypothesis import strategies as st
from torch import Tensor

import adapterhub
import tiny
from adapterhub import AdapterSetup
from adapterhub.composition import Average, BatchSplit, Composition, Fuse, MultiTask, Parallel, Rows, Split, Stack
from adapterhub.errors import CompositionError

METHODS = {
    "a": "double_seq_bn[reduction_factor=4, cross_adapter=True]",
    "b": "seq_bn[reduction_factor=8, leave_out=[0]]",
    "c": "lora[r=4, alpha=8, attn_matrices=[q, k, v, o], intermediate_lora=True, output_lora=True]",
    "d": "ia3",
    "e": "dora[r=2, attn_matrices=[q, v], leave_out=[0]]",
    "f": "par_bn[reduction_factor=4, leave_out=[0]]",
    "h": "vera[r=4, output_lora=True]",
    "i": "seq_bn_inv[reduction_factor=4]",
    "j": "ln_tuning",
    "l": "loreft[r=2, prefix_positions=2, suffix_positions=1, dropout=0.0]",
    "o": "prompt_tuning[prompt_length=3, insert_at=embedding_output, combine=prefix_after_bos]",
    "p": "prompt_tuning[prompt_length=2]",
    "x": "prefix_tuning_flat[prefix_length=2]",
    "y": "prefix_tuning_flat[prefix_length=3, leave_out=[0]]",
}
# For some, a second and a third of the same shape: what is alike in one batch runs as one.
ALIKE = {"a": "A1", "b": "B2", "c": "C3", "e": "E4", "h": "H5", "i": "I6", "l": "L7", "x": "X8"}
METHODS |= {twin: METHODS[name] for name, twins in ALIKE.items() for twin in twins}
NOTHING = "lora[r=1]"  # as it starts, it changes nothing: what is left of None inside a block
APART = "opxyX8"  # tokens of their own, which cannot be averaged or split
# Prompts of unlike lengths beside a Split, and means of invertible adapters before tied output embeddings.
REFUSED = ("unlike lengths", "cannot be inverted")
FUSIONS = (
    Fuse("a", "b"),
    Fuse("A", "B"),
    Fuse("a", "c", "d", name="three"),
    Fuse("A", "C", "d", name="twin"),
    Fuse(Stack("b", "c"), "f"),
)
BASES = ("bert", "gpt2", "llama", "t5", "bart", "deberta-v2")
GENERATING = {"gpt2": "LMHeadModel", "llama": "ForCausalLM", "t5": "ForConditionalGeneration",
              "bart": "ForConditionalGeneration"}  # fmt: skip
KINDS = (
    *((family, "Model") for family in BASES),
    *GENERATING.items(),
    ("bert", "ForTokenClassification"),
    ("roberta", "flexible"),
    ("t5", "flexible"),
)
EXAMPLES = int(os.environ.get("COMPOSITION_EXAMPLES", "100"))
LIMITS = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


def prepared(family: str, kind: str) -> Any:
    """A model with an adapter of every kind, with values that change what it gives."""
    if kind == "flexible":
        model: Any = adapterhub.AutoAdapterModel.from_config(tiny.config(family))
        model.add_tagging_head("head", num_labels=3)
    else:
        model = adapterhub.init(tiny.model(family, kind))
    for name, method in METHODS.items():
        if not (family == "deberta-v2" and name in "xyX8"):  # whose attention takes no prefixes
            model.add_adapter(name, config=method)
    for fuse in FUSIONS:
        model.add_adapter_fusion(fuse)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in (*model.adapters.parameters(), *model.fusions.parameters()):
            parameter.add_(0.2 * torch.randn_like(parameter))
    model.add_adapter("nothing", config=NOTHING)
    return model.double().eval()  # in double precision, so that what differs is wrong


MODELS = {(family, kind): prepared(family, kind) for family, kind in KINDS}


# Drawing an expression


@st.composite
def sizes(draw: Any, total: int, largest: int) -> list[int]:
    """Sizes above 0, none above ``largest``, that add up to ``total``."""
    found: list[int] = []
    while left := total - sum(found):
        found.append(draw(st.integers(1, min(left, largest))))
    return found


@st.composite
def expressions(draw: Any, names: str, rows: int, channels: int = 1, depth: int = 3, fixed: bool = True) -> Any:
    """One for so many rows that gives so many results for each; ``fixed`` says whether the number of rows is known."""

    def part(own: str = names, of_rows: int = rows, results: int = 1, known: bool = fixed) -> Any:
        return draw(expressions(own, of_rows, results, depth - 1, known))

    if channels > 1:
        if depth > 1 and draw(st.booleans()):
            parts = [part(results=channels if draw(st.booleans()) else 1) for _ in range(draw(st.integers(0, 2)))]
            at = draw(st.integers(0, len(parts)))
            return Stack(*parts[:at], part(results=channels), *parts[at:])
        each = draw(sizes(channels, channels - 1))
        return Parallel(*(part(results=one) for one in each))
    kinds = ["name", "name", "fuse"]
    if depth:
        kinds += ["stack", "average", "split", "tasks"] + ["batch", "rows"] * (2 * fixed)
    match draw(st.sampled_from(kinds)):
        case "fuse":
            return draw(st.sampled_from(FUSIONS))
        case "stack":
            return Stack(*(part() for _ in range(draw(st.integers(1, 3)))))
        case "average":
            weight = draw(st.floats(0.1, 0.9))
            own = "".join(name for name in names if name not in APART)
            return Average(part(own), part(own), weights=[weight, 1 - weight])
        case "split":
            own = "".join(name for name in names if name not in APART)
            return Split(part(own), part(own), splits=draw(st.integers(1, 8)))
        case "tasks":
            return MultiTask(part(known=False), part(known=False))
        case "batch":
            each = draw(sizes(rows, rows))
            return BatchSplit(*(part(of_rows=one) for one in each), batch_sizes=each)
        case "rows":
            own = [None if draw(st.integers(0, 3)) == 0 else part(of_rows=1) for _ in range(rows)]
            return Rows(own if any(own) else [names[0], *own[1:]])
        case _:
            return draw(st.sampled_from(names))


# What is left of it for a row of a channel


def left_of(block: Any, row: int, channel: int, tasks: list[int]) -> Any:
    """The part of an expression that acts on one row, of the rows whose tasks are ``tasks``, in one channel."""
    match block:
        case None:
            return "nothing"
        case str() | Fuse():
            return block
        case Rows():
            return left_of(block[row], 0, 0, tasks[row : row + 1])
        case MultiTask():
            return left_of(block[tasks[row]], 0, 0, tasks[row : row + 1])
        case BatchSplit():
            for child, size in zip(block, block.batch_sizes, strict=True):
                if row < size:
                    return left_of(child, row, 0, tasks[:size])
                row, tasks = row - size, tasks[size:]
        case Parallel():
            for child in block:
                if channel < (results := child.channels if isinstance(child, Composition) else 1):
                    return left_of(child, row, channel, tasks)
                channel -= results
        case Average():
            own = [left_of(child, row, channel, tasks) for child in block]
            return Average(*own, weights=block.weights)
        case Split():
            own = [left_of(child, row, channel, tasks) for child in block]
            return Split(*own, splits=block.splits)
    own = [left_of(child, row, channel, tasks) for child in block]
    return Stack(*own)


def has(setup: Any, kind: type[Composition]) -> bool:
    return any(isinstance(block, kind) for block in setup.walk())


def parts_of(setup: Composition, rows: int, tasks: list[int]) -> dict[Any, list[tuple[int, int]]]:
    """Rows and channels by what is left for them."""
    found: dict[Any, list[tuple[int, int]]] = {}
    for channel in range(setup.channels):
        for row in range(rows):
            left = left_of(setup, row, channel, tasks)
            found.setdefault(None if left == "nothing" else left, []).append((channel, row))
    return found


def run(model: Any, setup: Any, inputs: dict[str, Tensor], **options: Any) -> Tensor:
    """What the model gives, 0 at padding, of which some architectures give anything."""
    with torch.no_grad(), AdapterSetup(setup):
        output = model(**inputs, **options)
    states = output.logits if "logits" in output or hasattr(output, "head_outputs") else output.last_hidden_state
    if model.config.is_encoder_decoder:
        return states
    return states * inputs["attention_mask"].repeat(len(states) // len(inputs["attention_mask"]), 1).unsqueeze(-1)


@LIMITS
@given(st.sampled_from(KINDS), st.data())
def test_every_row_of_every_channel_is_as_if_it_ran_alone(of: tuple[str, str], data: Any) -> None:
    model, names = MODELS[of], "".join(name for name in METHODS if name in MODELS[of].adapters)
    rows, channels = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
    setup = data.draw(expressions(names, rows, channels))
    setup = setup if isinstance(setup, Composition) else Stack(setup)
    note(repr(setup))
    tasks = data.draw(st.lists(st.integers(0, 1), min_size=rows, max_size=rows))
    options = {"task_ids": tasks} if has(setup, MultiTask) else {}
    inputs = tiny.inputs(of[0], batch=rows)
    try:
        together = run(model, setup, inputs, **options).unflatten(0, (channels, rows))
    except CompositionError as error:
        assert any(reason in str(error) for reason in REFUSED), str(error)
        reject()
    for own, where in parts_of(setup, rows, tasks).items():
        alone = run(model, own, {name: value[[row for _, row in where]] for name, value in inputs.items()})
        found = torch.stack([together[at] for at in where])
        torch.testing.assert_close(found, alone, rtol=1e-6, atol=1e-8)


@settings(LIMITS, max_examples=max(1, EXAMPLES // 4))
@given(
    st.sampled_from(sorted(GENERATING)),
    st.sampled_from([1, 2]),
    st.sampled_from(["dynamic", "static", None]),
    st.data(),
)
def test_every_row_of_every_channel_is_generated_as_if_alone(family: str, beams: int, cache: Any, data: Any) -> None:
    model = MODELS[family, GENERATING[family]]
    rows, channels = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    setup = data.draw(expressions("".join(METHODS), rows, channels))
    setup = setup if isinstance(setup, Composition) else Stack(setup)
    note(repr(setup))
    tasks = data.draw(st.lists(st.integers(0, 1), min_size=rows, max_size=rows))
    by_task = {"task_ids": tasks} if has(setup, MultiTask) else {}
    options: dict[str, Any] = {"max_new_tokens": 4, "do_sample": False, "num_beams": beams, "eos_token_id": 98}
    options |= {"pad_token_id": 0, "use_cache": cache is not None}
    if cache == "static":
        options["cache_implementation"] = "static"
    ids = tiny.inputs(family, batch=rows)["input_ids"]
    try:
        with AdapterSetup(setup):
            together = model.generate(ids, **options, **by_task).unflatten(0, (channels, rows))
    except CompositionError as error:
        assert any(reason in str(error) for reason in REFUSED), str(error)
        reject()
    for own, where in parts_of(setup, rows, tasks).items():
        with AdapterSetup(own):
            alone = model.generate(ids[[row for _, row in where]], **options)
        found = torch.stack([together[at] for at in where])
        assert found[:, : alone.shape[1]].tolist() == alone.tolist()
