"""The kernel for many adapters in one batch: by Triton's interpreter, and through its compiler for GPUs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from adapterhub.methods import gathered

pytest.importorskip("triton")


def test_interpreted() -> None:
    tests = Path(__file__).with_name("interpreted_kernel.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(tests)]
    ran = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"TRITON_INTERPRET": "1"})
    assert ran.returncode == 0, ran.stdout[-5000:] + ran.stderr[-2000:]


@pytest.mark.parametrize(
    ("architecture", "dtype", "size", "activation"),
    [(75, torch.float16, 48, "gelu"), (75, torch.float32, 512, "relu"), (90, torch.float32, 512, "gelu_tanh")],
)
def test_it_compiles_for_gpus(architecture: int, dtype: torch.dtype, size: int, activation: str) -> None:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel = gathered._kernel()
    units, tokens, width = gathered._blocks(size, 128, dtype.itemsize)
    constants = {
        "size": size,
        "activation": activation,
        "gather": True,
        "has_residual": True,
        "has_biases": True,
        "scaled_by": "channel",
        "dtype": kernel.TYPES[dtype],
        "precision": "tf32" if architecture >= 80 else "ieee",
        "block_tokens": tokens,
        "block_size": units,
        "block_width": width,
    }
    pointer = "*fp16" if dtype == torch.float16 else "*fp32"
    names = kernel.low_rank.arg_names
    kinds = {name: "constexpr" if name in constants else pointer for name in names}
    kinds |= {"which": "*i64"} | dict.fromkeys(("adapters", "tokens", "width", "out"), "i32")
    given = {(names.index(name),): value for name, value in constants.items()}
    source = ASTSource(kernel.low_rank, signature=kinds, constexprs=given)
    compiled = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options={"num_stages": 2})
    assert compiled.metadata.shared <= (64 if architecture < 80 else 99) * 1024  # what every GPU of that kind has
