"""One call of a model under a setup that asks about it: which task each row is of, how many rows there are, ..."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from adapterhub.composition import MultiTask
from adapterhub.engine.adapter import PROMPT
from adapterhub.engine.locations import attentions_of, gates_of
from adapterhub.engine.program import Call, Slots
from adapterhub.engine.reader import cut_encoder
from adapterhub.engine.repeat import repeated_inputs
from adapterhub.errors import CompositionError, TrunkError

if TYPE_CHECKING:
    from adapterhub.engine.engine import Engine
    from adapterhub.engine.plan import Plan

TASKS, ATTENTIONS, GATES = "task_ids", "output_adapter_fusion_attentions", "output_adapter_gating_scores"
SLOTS = "adapter_slots"
STATES = "trunk_states"  # by which what the layers of a trunk give is fed in
OPTIONS = (TASKS, ATTENTIONS, GATES, SLOTS, STATES)
_AHEAD = ("assistant_model", "prompt_lookup_num_tokens")
_INPUTS = ("input_ids", "inputs_embeds", "pixel_values", "input_features", "input_values", "decoder_input_ids")


def run(engine: "Engine", forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call ``forward`` of the engine's model under the setup that is active.

    Beside the arguments of the model there may be ``task_ids`` ``[batch]``, for ``MultiTask``, ``adapter_slots``, for a
    ``Bank``, ``trunk_states`` ``[batch, seq, width]``, as a ``Trunk`` that is in use gives them, and
    ``output_adapter_fusion_attentions`` and ``output_adapter_gating_scores``: with these True the output has
    ``adapter_fusion_attentions`` (by fusion, number of the layer and kind of place, ``[batch, seq, adapters]``) and
    ``adapter_gating_scores`` (by adapter, layer and kind, ``[batch]``); ``get_adapter`` says which kinds there are.

    Raises:
        CompositionError: if the batch, ``task_ids`` or ``adapter_slots`` do not fit the setup.
        TrunkError: if ``trunk_states`` do not fit it, or no trunk is in use.
    """
    given = {name: kwargs.pop(name, None) for name in OPTIONS}
    plan = engine.plan()
    generation = engine.generation
    rows = batch_rows(engine.model, args, kwargs)
    tasks = None if generation is None else generation.task_ids
    if given[TASKS] is not None:
        tasks = _task_ids(given[TASKS], rows, plan)
    slots = None if generation is None else generation.slots
    if given[SLOTS] is not None or (generation is None and plan is not None and plan.banks):
        slots = _slots(plan, given[SLOTS], rows)
    channels = 1 if generation is None else generation.channels
    if plan is not None and generation is None:
        check_rows(plan, rows)
        # A model with flexible heads repeats what its base gets, and not what its heads get.
        if engine.repeats_inputs and not hasattr(engine.model, "heads"):
            channels = plan.channels
            args = repeated_inputs(args, rows, channels)
            kwargs = repeated_inputs(kwargs, rows, channels)
    call = _call(plan, generation, rows, kwargs)._replace(
        task_ids=tasks,
        slots=slots,
        channels=channels,
        attentions={} if given[ATTENTIONS] else None,
        apart=bool(given[ATTENTIONS] or given[GATES]),
    )
    if given[STATES] is not None:
        call = call._replace(trunk=_fed(engine, plan, given[STATES], rows, channels, kwargs))
    as_tuple = plan is not None and bool(plan.prompts) and not _as_dict(engine, kwargs)
    if as_tuple:
        kwargs["return_dict"] = True  # by the names in it is known what is to be cut
    with ExitStack() as stack:
        stack.enter_context(engine.calling(call))
        gates = _watch_gates(engine, stack) if given[GATES] else None
        output = forward(*args, **kwargs)
        if (layout := engine.layouts.get(PROMPT)) is not None:
            cut_encoder(layout, output)
    if as_tuple:
        output = output.to_tuple()
    return _with_found(output, _found(engine, call.attentions, gates))


def _call(plan: "Plan | None", generation: Call | None, rows: int, kwargs: Mapping[str, Any]) -> Call:
    """What the arguments of a call say of it."""
    mask = _padding(kwargs.get("attention_mask"))
    return Call(
        offset=_offset(plan, kwargs),
        prompt=None if generation is None else generation.prompt,
        mask=_prompt_padding(generation, rows) if mask is None else mask,
        decoder_mask=_padding(kwargs.get("decoder_attention_mask")),
        carried={} if plan is not None and plan.sides else None,
    )


def generate(engine: "Engine", generate_: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Generate under the setup that is active; of a ``Parallel``, every channel's results one after another.

    Raises:
        CompositionError: if the batch, ``task_ids`` or ``adapter_slots`` do not fit the setup, or tokens are guessed
            ahead under a prompt.
    """
    given, slots = kwargs.pop(TASKS, None), kwargs.pop(SLOTS, None)
    plan = engine.plan()
    if plan is None or not plan.reads_call:
        return generate_(*args, **kwargs)
    ahead = [name for name in _AHEAD if kwargs.get(name) is not None]
    if plan.prompts and ahead:
        raise CompositionError(
            f"{', '.join(ahead)}: guesses are taken back from a cache by their number in the text, which a prompt in "
            "the cache moves. Generate without"
        )
    rows = batch_rows(engine.model, args, {"input_ids": kwargs.get("inputs")} | kwargs)
    check_rows(plan, rows)
    tasks = None if given is None else _task_ids(given, rows, plan)
    if (channels := plan.channels) > 1:
        args = repeated_inputs(args, rows, channels)
        kwargs = repeated_inputs(kwargs, rows, channels)
    ids = next((value for value in (*args, kwargs.get("inputs"), kwargs.get("input_ids")) if value is not None), None)
    prompt = ids.shape[1] if isinstance(ids, Tensor) and ids.dim() == 2 else None
    mask = _padding(kwargs.get("attention_mask"))
    call = Call(tasks, prompt=prompt, channels=channels, mask=mask, slots=_slots(plan, slots, rows))
    with engine.calling(call, generation=call):
        return generate_(*args, **kwargs)


def batch_rows(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """How many rows the inputs of a call have; 0 where no tensor says so."""
    named = (kwargs.get(name) for name in (getattr(model, "main_input_name", "input_ids"), *_INPUTS))
    found = (value for value in (*args, *named, *kwargs.values()) if isinstance(value, Tensor) and value.dim())
    return next((value.shape[0] for value in found), 0)


def _fed(
    engine: "Engine", plan: "Plan | None", states: Tensor, rows: int, channels: int, kwargs: dict[str, Any]
) -> tuple[Tensor, ...]:
    if engine.trunk is None:
        raise TrunkError(f"{STATES} were given, and no trunk is in use: call the model inside `with Trunk(model):`")
    if len(states) != rows:
        raise TrunkError(f"{STATES} are of {len(states)} rows, and the batch has {rows}")
    return engine.trunk.feed(states if channels == 1 else repeated_inputs(states, rows, channels), plan, kwargs)


def check_rows(plan: "Plan", rows: int) -> None:
    """Pass a batch that a setup can run on.

    Raises:
        CompositionError: if it has another number of rows than the setup is for.
    """
    if plan.rows is not None and rows != plan.rows:
        raise CompositionError(f"{plan.setup!r} is for batches of {plan.rows} rows, and this one has {rows}")


def _as_dict(engine: "Engine", kwargs: Mapping[str, Any]) -> bool:
    """Whether the caller wants an output with names."""
    given = kwargs.get("return_dict")
    return bool(engine.model.config.return_dict if given is None else given)


def _task_ids(given: Any, rows: int, plan: "Plan | None") -> Tensor:
    tasks = torch.as_tensor(given).flatten()
    if len(tasks) != rows:
        raise CompositionError(f"there are {len(tasks)} task_ids and {rows} rows in the batch")
    counts = [len(block) for block in plan.setup.walk() if isinstance(block, MultiTask)] if plan else []
    if counts and not torch.compiler.is_compiling() and not 0 <= int(tasks.min()) <= int(tasks.max()) < min(counts):
        raise CompositionError(
            f"task_ids are from 0 to {min(counts) - 1} for {plan and plan.setup!r}, not {tasks.tolist()}"
        )
    return tasks


def _slots(plan: "Plan | None", given: Any, rows: int) -> "dict[str, int | Slots] | None":
    """What every bank of a setup is to use in a call."""
    banks = () if plan is None else plan.banks
    by_bank = given if isinstance(given, Mapping) else {bank.name: given for bank in banks}
    unknown = [name for name in by_bank if name not in [bank.name for bank in banks]]
    if unknown or (given is not None and len(banks) != 1 and not isinstance(given, Mapping)):
        raise CompositionError(
            f"adapter_slots are given for {', '.join(unknown) or 'one bank'}, and the active setup "
            f"{plan and plan.setup!r} has the banks {', '.join(bank.name for bank in banks) or 'none'}"
        )
    found = {bank.name: bank.choice(by_bank.get(bank.name), rows) for bank in banks}
    return {name: chosen for name, chosen in found.items() if chosen is not None} or None


def _offset(plan: "Plan | None", kwargs: Mapping[str, Any]) -> int:
    """The position of the first token: how many are in the cache."""
    cache = kwargs.get("past_key_values")
    if plan is None or cache is None or not (plan.splits or plan.layers or plan.sides):
        return 0
    return int(cache.get_seq_length())


def _padding(mask: Any) -> Tensor | None:
    """A mask that says which tokens are padding, and not one that attention computes with."""
    return mask if isinstance(mask, Tensor) and mask.dim() == 2 else None


def _prompt_padding(generation: Call | None, rows: int) -> Tensor | None:
    """What was said to ``generate``, which with a static cache calls the model with masks for attention alone."""
    mask = None if generation is None else generation.mask
    return None if mask is None else mask.repeat_interleave(rows // len(mask), dim=0)


def _watch_gates(engine: "Engine", stack: ExitStack) -> dict[str, dict[str, Tensor]]:
    """What the gates of active adapters come to in the call inside ``stack``: means over positions."""
    plan = engine.plan()
    scores: dict[str, dict[str, Tensor]] = {}

    def keep(name: str, site: str, module: nn.Module, args: Any, output: Tensor) -> None:
        scores.setdefault(name, {})[site] = torch.sigmoid(output).mean(dim=-2, keepdim=True)

    if plan is not None and plan.banks:
        raise CompositionError(f"{GATES}: what is inside of the bank {plan.banks[0].name!r} is not seen")
    for name in () if plan is None else plan.setup.names():
        for path, module in engine.adapters[name].named_modules():
            site, _, last = path.rpartition(".")
            if last == "gate":
                stack.callback(module.register_forward_hook(partial(keep, name, site)).remove)
    return scores


def _found(
    engine: "Engine",
    attentions: Mapping[str, Mapping[str, Tensor]] | None,
    gates: Mapping[str, Mapping[str, Tensor]] | None,
) -> dict[str, Any]:
    """Attention of fusions and what gates came to, where they were asked for, by layer and place."""
    found: dict[str, Any] = {}
    if attentions is not None:
        found["adapter_fusion_attentions"] = {
            name: attentions_of(engine.places, sites) for name, sites in attentions.items()
        }
    if gates is not None:
        found["adapter_gating_scores"] = {name: gates_of(engine.places, sites) for name, sites in gates.items()}
    return found


def _with_found(output: Any, found: dict[str, Any]) -> Any:
    if not found:
        return output
    if isinstance(output, tuple):
        return (*output, *found.values())
    for name, value in found.items():
        output[name] = value
    return output
