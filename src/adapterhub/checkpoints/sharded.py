"""Parameters that are spread over processes (FSDP2, DeepSpeed ZeRO-3), brought together to be saved.

Every process has to call these functions, and each gets all values.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@torch.no_grad()
def whole_state(module: nn.Module) -> dict[str, Tensor]:
    """The state dict of a module with whole tensors."""
    with _gathered(module.parameters()) as gathered:
        state = {name: whole(tensor) for name, tensor in module.state_dict().items()}
        return {name: tensor.clone() for name, tensor in state.items()} if gathered else state


@torch.no_grad()
def whole_copies(parameters: Iterable[nn.Parameter]) -> dict[int, nn.Parameter]:
    """Copies of parameters, whole and without gradients, by the ``id`` of what they are copies of."""
    own = list(parameters)
    with _gathered(own):
        return {id(one): nn.Parameter(whole(one.detach()).clone(), one.requires_grad) for one in own}


def whole(tensor: Tensor) -> Tensor:
    """A tensor, of which this process may have a part (FSDP2)."""
    full = getattr(tensor, "full_tensor", None)  # of a DTensor
    return tensor if full is None else full()


@contextmanager
def _gathered(parameters: Iterable[nn.Parameter]) -> Iterator[bool]:
    """Have parameters that ZeRO-3 took apart be whole inside; says whether there are any."""
    apart = [parameter for parameter in parameters if hasattr(parameter, "ds_id")]
    if not apart:
        yield False
        return
    from deepspeed import zero

    with zero.GatheredParameters(apart):
        yield True
