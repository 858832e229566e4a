"""Batches whose rows have adapters of their own, for ``worker.py``: what each library runs in each case.

A case is a number of rows and of adapters, and how these are divided: ``one`` (one adapter for all rows), ``each``
(every row has another, or equal shares of the rows), ``zipf`` (adapter k has a share of 1 / k), ``slots`` (``each``,
out of a bank), ``slot`` (``one``, out of a bank); ``parallel`` (all adapters on the same input, in the top half of the
model) and ``passes`` (the same, one pass for each).
"""

import random
from collections.abc import Callable, Sequence
from typing import Any

import torch

LENGTH = 32
Call = Callable[..., Any]


def ours(model: Any, method: str, case: str, rows: int, count: int) -> list[Callable[[Call], Any]]:
    """What is called in one step, each with the model's inputs."""
    import adapterhub
    from adapterhub.composition import Parallel, Rows, Stack

    adapterhub.init(model)
    layers = model.config.num_hidden_layers
    left_out = tuple(range(layers // 2)) if case in ("parallel", "passes") else ()
    config = adapterhub.load_config(method, leave_out=left_out)
    names = [f"a{number}" for number in range(count)]
    for name in names:
        model.add_adapter(name, config=config)
    model.eval()
    if case == "passes":
        plans = [model.engine.acquire(Stack(name)) for name in names]
        return [lambda call, plan=plan: _under(model, plan, call) for plan in plans]
    if case in ("slots", "slot"):
        bank = model.engine.add_bank("bank", config, count)
        for slot, name in enumerate(names):
            bank.put(slot, model.adapters[name].state_dict())
        model.set_active_adapters("bank")
        slots = 1 if case == "slot" else [number * 7 % count for number in range(rows)]
        return [lambda call: call(adapter_slots=slots)]
    setup = {"one": Stack("a0"), "parallel": Parallel(*names)}.get(case)
    model.set_active_adapters(setup or Rows([names[at] for at in assigned(case, rows, count)]))
    return [lambda call: call()]


def _under(model: Any, plan: Any, call: Call) -> Any:
    model.engine.active = plan  # which is compiled, and its hooks in place
    return call()


def adapters(model: Any, method: str, case: str, rows: int, count: int) -> list[Callable[[Call], Any]]:
    """The same with ``adapters``, which has no rows of unlike adapters but blocks of them."""
    import adapters
    from adapters import composition

    adapters.init(model)
    names = [f"a{number}" for number in range(count)]
    for name in names:
        model.add_adapter(name, config=method)
    model.eval()
    split = composition.BatchSplit(*names, batch_sizes=[rows // count] * count)
    model.set_active_adapters(split if case == "each" else "a0")
    return [lambda call: call()]


def peft(model: Any, method: str, case: str, rows: int, count: int) -> list[Callable[[Call], Any]]:
    """The same with PEFT's mixed batches, of LoRA alone."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=8, target_modules=["query", "value"])
    model = get_peft_model(model, config, adapter_name="a0")
    for number in range(1, count):
        model.add_adapter(f"a{number}", config)
    model.eval()
    if case == "one":
        return [lambda call: call(through=model)]
    names = [f"a{at}" for at in assigned(case, rows, count)]
    return [lambda call: call(through=model, adapter_names=names)]


def assigned(case: str, rows: int, count: int) -> Sequence[int]:
    """The number of the adapter of each row."""
    if case == "zipf":
        return random.Random(0).choices(range(count), [1 / (number + 1) for number in range(count)], k=rows)
    return [row * count // rows for row in range(rows)]


def step(library: str, model: Any, method: str, case: str, rows: int, count: int) -> Callable[[], None]:
    """What is timed: the forward passes of a case, over a batch of ``rows`` rows."""
    ids = torch.randint(1000, 20000, (rows, LENGTH), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    calls = {"ours": ours, "adapters": adapters, "peft": peft}[library](model, method, case, rows, count)

    def call(through: Any = None, **options: Any) -> Any:
        return (through or model)(input_ids=ids, attention_mask=mask, **options)

    def run() -> None:
        with torch.inference_mode():
            for one in calls:
                one(call)

    return run
