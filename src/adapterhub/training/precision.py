"""What numbers a machine computes with fastest."""

import torch

FORMATS = {"bf16": "bfloat16", "fp32": "float32"}


def chosen_precision(wanted: str) -> str:
    """``"bf16"`` or ``"fp32"``, as ``wanted``; for ``"auto"`` the best that the machine has."""
    return best_precision() if wanted == "auto" else wanted


def best_precision() -> str:
    """``"bf16"`` where the machine computes in bfloat16 faster than in float32, else ``"fp32"``."""
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    cpu = torch.cpu
    fast = getattr(cpu, "_is_avx512_bf16_supported", bool)() or getattr(cpu, "_is_amx_tile_supported", bool)()
    return "bf16" if fast else "fp32"
