"""One of two processes (gloo, CPUs) that train the same adapter: ``python two_processes.py RANK FOLDER WAY``."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch import distributed as dist

import adapterhub
import tiny

SETUP = adapterhub.Stack("a", "b")


def prepared() -> nn.Module:
    """A classifier with two adapters of which one alone trains, and its head; the same in every process."""
    model = adapterhub.init(tiny.model("bert", "ForSequenceClassification", seed=3))
    torch.manual_seed(5)
    model.add_adapter("a", config="seq_bn[reduction_factor=4]")
    model.add_adapter("b", config="dora[r=4]")
    model.train_adapter(SETUP)
    model.eval()  # without dropout, which is random
    return model


def batch(rank: int | None = None) -> dict[str, Tensor]:
    """Eight labelled rows, or the four of a process."""
    rows = tiny.inputs("bert", batch=8) | {"labels": torch.arange(8) % 2}
    return rows if rank is None else {name: value[4 * rank : 4 * rank + 4] for name, value in rows.items()}


def train(model: nn.Module, inputs: dict[str, Tensor], steps: int = 2) -> None:
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    for _ in range(steps):
        optimiser.zero_grad()
        model(**inputs).loss.backward()
        optimiser.step()


def ddp(rank: int, folder: Path) -> None:
    model = prepared()
    train(nn.parallel.DistributedDataParallel(model), batch(rank))
    for name in "ab":
        model.save_adapter(folder / name, name)


def fsdp2(rank: int, folder: Path) -> None:
    from torch.distributed.fsdp import fully_shard

    model = prepared()
    for layer in model.bert.encoder.layer:
        fully_shard(layer)
    fully_shard(model)
    sharded = [type(parameter).__name__ for parameter in model.parameters()]
    assert set(sharded) == {"DTensor"}, sharded
    train(model, batch(rank))
    for name in "ab":
        model.save_adapter(folder / name, name)


def deepspeed(rank: int, folder: Path) -> None:
    import deepspeed

    os.environ |= {"LOCAL_RANK": str(rank), "RANK": str(rank), "WORLD_SIZE": "2"}
    deepspeed.init_distributed("gloo", auto_mpi_discovery=False)
    model = prepared()
    config = {
        "train_micro_batch_size_per_gpu": 4,
        "optimizer": {"type": "SGD", "params": {"lr": 0.5}},
        "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0},
        "zero_allow_untested_optimizer": True,
    }
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    engine, *_ = deepspeed.initialize(model=model, model_parameters=trained, config=config)
    assert not next(model.adapters.parameters()).numel()
    for _ in range(2):
        engine.backward(engine(**batch(rank)).loss)
        engine.step()
    for name in "ab":
        model.save_adapter(folder / name, name)


WAYS: dict[str, Callable[[int, Path], None]] = {"ddp": ddp, "fsdp2": fsdp2, "deepspeed": deepspeed}


def main() -> None:
    rank, folder, ways = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    for way in ways:
        WAYS[way](rank, folder / way)
        dist.barrier()
    os._exit(0)  # a thread of gloo that still wants Python while that ends would abort the process


if __name__ == "__main__":
    main()
