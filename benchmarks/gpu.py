"""What adapters cost on a GPU in bfloat16, against the bare model, and against what its memory and arithmetic allow.

``forward`` and ``step`` (forward, backward, AdamW, under autocast) of a BERT, bare and with a ``seq_bn`` adapter; the
bare model's step trains all of it. ``rows``: 256 rows of 256 adapters of a bank, by the Triton kernel and by batched
matrix products, a whole forward pass and one adapter layer of it, against one adapter for all rows.

The floor of each is the longer of two times: that of its floating-point operations at the rate of a large product of
matrices, and that of its bytes at the rate of a large copy, both measured here. Bytes are the weights, read once, and
what linear maps read and write; of a training step three times these, for its backward pass takes and gives as much
again twice.

``gpu.py`` on a machine with CUDA keeps ``results/gpu.json``; ``gpu.py --small`` runs anywhere and keeps nothing.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertForSequenceClassification, BertModel

import adapterhub
from adapterhub import load_config
from adapterhub.methods import gathered
from workers import interleave, machine, save, summary

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
METHOD = "seq_bn"


@dataclass(frozen=True)
class Size:
    """What is measured: a model, batches of ``rows`` times ``length`` tokens, and as many adapters as ``adapters``."""

    width: int = 768
    layers: int = 12
    rows: int = 64
    length: int = 128
    adapters: int = 256  # one for each of as many rows
    tokens: int = 32  # of each of these rows
    elements: int = 1 << 29  # of the copy that tells bandwidth
    matrix: int = 8192  # side of those whose product tells the rate of arithmetic


MINILM = Size(width=384, layers=6)
SMALL = Size(width=64, layers=2, rows=4, length=16, adapters=8, tokens=8, elements=1 << 20, matrix=256)


@dataclass(frozen=True)
class Case:
    """Something to time; ``plain``: not by the kernel."""

    run: Callable[[], Any]
    plain: bool = False
    passes: int = 1  # how often a step moves the bytes of a forward pass

    def time(self, steps: int) -> list[float]:
        """Seconds of each of some runs."""
        with without_kernel() if self.plain else nullcontext():
            return [seconds(self.run) for _ in range(steps)]


@contextmanager
def without_kernel() -> Iterator[None]:
    """Everything by batched matrix products."""
    before = gathered.runs
    gathered.runs = lambda *_: False
    try:
        yield
    finally:
        gathered.runs = before


def seconds(run: Callable[[], Any]) -> float:
    synchronise()
    start = time.perf_counter()
    run()
    synchronise()
    return time.perf_counter() - start


def synchronise() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def rates(size: Size) -> dict[str, float]:
    """Bytes and floating-point operations a second, the best of several runs."""
    source = torch.zeros(size.elements, dtype=torch.bfloat16, device=DEVICE)
    target = torch.empty_like(source)
    one, other = (torch.randn(size.matrix, size.matrix, device=DEVICE).bfloat16() for _ in range(2))
    copy = min(seconds(lambda: target.copy_(source)) for _ in range(10))
    product = min(seconds(lambda: one @ other) for _ in range(10))
    return {"bytes_per_second": 2 * source.nbytes / copy, "flops_per_second": 2 * size.matrix**3 / product}


def bert(size: Size) -> dict[str, int]:
    return {
        "hidden_size": size.width,
        "num_hidden_layers": size.layers,
        "num_attention_heads": max(1, size.width // 64),
        "intermediate_size": 4 * size.width,
    }


def ids(rows: int, length: int) -> Tensor:
    return torch.randint(1000, 20000, (rows, length), generator=torch.Generator().manual_seed(0)).to(DEVICE)


def forward(size: Size, adapted: bool) -> Case:
    model = BertModel(BertConfig(**bert(size))).eval()
    if adapted:
        adapterhub.init(model).add_adapter("a", config=METHOD, set_active=True)
    model.to(DEVICE, torch.bfloat16)
    inputs = ids(size.rows, size.length)
    return Case(inference(lambda: model(inputs)))


def inference(run: Callable[[], Any]) -> Callable[[], Any]:
    return torch.inference_mode()(run)


def step(size: Size, adapted: bool) -> Case:
    model = BertForSequenceClassification(BertConfig(**bert(size)))
    if adapted:
        adapterhub.init(model).add_adapter("a", config=METHOD)
        model.train_adapter("a")
    model.to(DEVICE).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-4, fused=DEVICE == "cuda")
    inputs, labels = ids(size.rows, size.length), torch.zeros(size.rows, dtype=torch.long, device=DEVICE)

    @torch.enable_grad()
    def run() -> None:
        with torch.autocast(DEVICE, torch.bfloat16):
            loss = model(input_ids=inputs, labels=labels).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()

    return Case(run, passes=3)


def rows(size: Size) -> dict[str, Case]:
    """A row for each adapter of a bank: whole forward passes, and one adapter layer."""
    model = adapterhub.init(BertModel(BertConfig(**bert(size))).eval()).to(DEVICE, torch.bfloat16)
    bank = model.engine.add_bank("bank", load_config(METHOD), capacity=size.adapters, dtype=torch.bfloat16)
    for slot in range(size.adapters):
        bank.put(slot, {path: 0.02 * torch.randn(shape) for path, shape in bank.shapes.items()})
    model.set_active_adapters("bank")
    inputs, slots = ids(size.adapters, size.tokens), list(reversed(range(size.adapters)))
    each = Case(inference(lambda: model(inputs, adapter_slots=slots)))
    layer = Case(inference(one_layer(size)))
    return {
        "one_adapter": Case(inference(lambda: model(inputs, adapter_slots=0))),
        "kernel": each,
        "plain": replace(each, plain=True),
        "layer_kernel": layer,
        "layer_plain": replace(layer, plain=True),
    }


def one_layer(size: Size) -> Callable[[], Any]:
    """The adapters of one layer alone, each for a row of its own."""
    from adapterhub.methods import Place
    from adapterhub.methods.bottleneck import Bottleneck, BottleneckConfig
    from adapterhub.methods.stacked import Stacked, Unit

    part = Bottleneck(BottleneckConfig(), Place("layer", "output", "feed_forward", 0, size.width)).eval()
    unit = Unit(part.to(DEVICE, torch.bfloat16).requires_grad_(False))
    tensors = [
        torch.stack([kept[name]] * size.adapters).normal_(0, 0.02).detach() for kept, name in unit.holders().values()
    ]
    which = torch.arange(size.adapters, device=DEVICE).flip(0)
    states = torch.randn(size.adapters, 1, size.tokens, size.width, device=DEVICE).bfloat16()
    stacked = Stacked(unit)
    return lambda: stacked.run(tensors, "forward", (states, states), (None,), which=which)


def layer_floor(size: Size) -> tuple[int, int]:
    """Floating-point operations and bytes of ``one_layer``: parameters of all adapters, states read and written."""
    units = size.width // 16
    states = size.adapters * size.tokens * size.width
    return 4 * states * units, 2 * (size.adapters * (2 * size.width * units + size.width + units) + 2 * states)


def counted(case: Case) -> tuple[int, int]:
    """Floating-point operations and bytes of a run, counted while it runs by matrix products."""
    moved = 0

    def add(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal moved
        if isinstance(module, nn.Linear) and inputs[0].device.type == DEVICE:
            moved += module.weight.nbytes + inputs[0].nbytes + output.nbytes

    hook = nn.modules.module.register_module_forward_hook(add)
    try:
        with without_kernel(), FlopCounterMode(display=False) as counter:
            case.run()
    finally:
        hook.remove()
    return counter.get_total_flops(), moved * case.passes


def floors(cases: dict[str, Case], size: Size, found: dict[str, float], measured: dict[str, Any]) -> dict[str, Any]:
    """For each case its floor, and how many times that it takes."""
    result = {}
    for name, case in cases.items():
        flops, moved = layer_floor(size) if name.startswith("layer_") else counted(case)
        arithmetic, bandwidth = flops / found["flops_per_second"], moved / found["bytes_per_second"]
        floor = 1000 * max(arithmetic, bandwidth)
        result[name] = {
            "gigaflops": round(flops / 1e9, 3),
            "megabytes": round(moved / 1e6, 3),
            "arithmetic_milliseconds": round(1000 * arithmetic, 4),
            "bandwidth_milliseconds": round(1000 * bandwidth, 4),
            "times_the_floor": round(measured[name]["milliseconds"] / floor, 2),
        }
    return result


def measure(size: Size, rounds: int, steps: int) -> dict[str, Any]:
    """All cases of a size, in turn."""
    cases = {
        "bare_forward": forward(size, False),
        "forward": forward(size, True),
        "bare_step": step(size, False),
        "step": step(size, True),
        **rows(size),
    }
    against = {"forward": "bare_forward", "step": "bare_step"}
    against |= {"kernel": "plain", "plain": "one_adapter", "layer_kernel": "layer_plain"}
    if not gathered.runs([ids(1, 1).bfloat16()]):
        print("no kernel here: a GPU and Triton run it, or TRITON_INTERPRET=1", file=sys.stderr)
        cases = {name: case for name, case in cases.items() if not name.endswith("kernel")}
    against = {name: other for name, other in against.items() if name in cases}
    measured = summary(interleave(cases, rounds, steps), against)
    found = rates(size)
    return {"size": vars(size), "rates": found, "times": measured, "floors": floors(cases, size, found, measured)}


def about() -> dict[str, Any]:
    """The GPU and the versions that were measured."""
    versions = {}
    for name in ("torch", "transformers", "triton"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "none"
    gpu = torch.cuda.get_device_name() if DEVICE == "cuda" else "none"
    return {"gpu": gpu, **versions, "machine": machine()}


def main(rounds: int, steps: int, small: bool) -> None:
    """Measure, and keep what a GPU gave."""
    torch.manual_seed(0)
    sizes = {"small": SMALL} if small else {"bert_base": Size(), "minilm": MINILM}
    result = about() | {name: measure(size, rounds, steps) for name, size in sizes.items()}
    result |= {"rounds": rounds, "steps": steps}
    if DEVICE == "cuda" and not small:
        save("gpu", result)
    else:
        print(json.dumps(result, indent=1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", type=int, nargs="?", default=20)
    parser.add_argument("steps", type=int, nargs="?", default=5)
    parser.add_argument("--small", action="store_true", help="small sizes, anywhere; nothing is kept")
    options = parser.parse_args()
    if DEVICE == "cpu" and not options.small:
        parser.error("there is no CUDA here: --small runs on a CPU")
    main(options.rounds, options.steps, options.small)
