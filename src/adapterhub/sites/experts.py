"""The experts of a mixture, whose weights are one parameter, reached through transformers' experts interface.

Where its handler changes nothing, a module of experts runs as before.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS, _grouped_mm

from adapterhub.sites import handled

_SETTING = "_experts_implementation_internal"
_OPTIONS = ("has_gate", "has_bias", "is_transposed", "has_post_expert_norm")
_TYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_ROLES = {"gate_up_proj": "gate_up", "up_proj": "up", "down_proj": "down"}
# Of a parameter's name, what it gave, what it read, and which expert each token of these went to: what it is to give.
Change = Callable[[str, Tensor, Tensor, Tensor], Tensor]
Handler = Callable[[], Change | None]


@dataclass(frozen=True)
class Routing:
    """Which expert each token goes to, ``experts`` ``[tokens]``.

    ``order`` puts tokens of one expert together, and ``back`` undoes that; ``ends`` are where each expert's tokens end.
    """

    experts: Tensor
    order: Tensor
    back: Tensor
    ends: Tensor

    @classmethod
    def of(cls, experts: Tensor, count: int) -> Self:
        """The routing of tokens to ``count`` experts."""
        order = torch.argsort(experts, stable=True)
        back = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
        chosen = experts[:, None] == torch.arange(count, device=order.device)
        return cls(experts, order, back, chosen.sum(0).cumsum(0).to(torch.int32))

    def linear(self, inputs: Tensor, *matrices: Tensor) -> Tensor:
        """``inputs`` ``[tokens, in]``, each through its expert's of ``matrices`` ``[experts, out, in]``, in turn."""
        state = inputs[self.order]
        for one in matrices:
            multiply = _grouped_mm if _can_be_grouped(one) else torch.ops.transformers.grouped_mm_fallback
            state = multiply(state.to(one.dtype), one.mT, self.ends)
        return state[self.back]


def experts_forward(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """The registered function: the experts as before, or with what the module's handler changes."""
    handler: Handler | None = handled.handler_of(module)
    change = None if handler is None else handler()
    if change is not None:
        return _changed(module, change, *args, **kwargs)
    named = handled.original_config(module)._experts_implementation
    own: Any = type(module).forward  # wrapped by what asks the interface
    run = ALL_EXPERTS_FUNCTIONS.get_interface(named, own.__wrapped__)
    return run(module, *args, **kwargs)


ALL_EXPERTS_FUNCTIONS.register(handled.NAME, experts_forward)


def weights(module: nn.Module) -> Iterator[tuple[str, str]]:
    """Names and roles of the parameters of a module of experts that asks the interface; none of any other."""
    asks = all(hasattr(module, name) for name in _OPTIONS)
    if not asks or getattr(module, "_is_expert_parallel", False):  # there each process holds some of the experts
        return
    for name, role in _ROLES.items():
        parameter = module._parameters.get(name)
        if parameter is not None and parameter.dim() == 3 and parameter.dtype in _TYPES:
            yield name, role


def install(module: nn.Module, handler: Handler) -> None:
    """Have ``handler`` say at each call of ``module`` what changes in it."""
    handled.install(module, _SETTING, handler)


def _can_be_grouped(matrices: Tensor) -> bool:
    """Whether torch's grouped product takes matrices ``[count, a, b]``: rows of whole 16 bytes either way."""
    aligned = all(size * matrices.element_size() % 16 == 0 for size in matrices.shape[1:])
    return aligned and matrices.dtype in (torch.float32, torch.bfloat16, torch.float16)


def _changed(module: Any, change: Change, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
    """What the experts give, with a change after each of their weights.

    Args:
        module: the experts.
        change: called with ``[tokens * k, ...]``: each token once for each of the k experts that it goes to.
        hidden_states: ``[tokens, hidden]``.
        top_k_index: the experts, ``[tokens, k]``.
        top_k_weights: how much each of them counts, ``[tokens, k]``.
    """
    tokens, k = top_k_index.shape
    experts = top_k_index.reshape(-1)
    routing = Routing.of(experts, module.num_experts)

    def project(name: str, inputs: Tensor) -> Tensor:
        stored = getattr(module, name)
        output = routing.linear(inputs, stored.mT if module.is_transposed else stored)
        if module.has_bias:
            output = output + getattr(module, f"{name}_bias")[experts]
        return change(name, output, inputs, experts)

    inputs = hidden_states.repeat_interleave(k, dim=0)
    if module.has_gate:
        inner = module._apply_gate(project("gate_up_proj", inputs))
    else:
        inner = module.act_fn(project("up_proj", inputs))
    output = project("down_proj", inner)
    if module.has_post_expert_norm:
        output = module.post_expert_norm(output)
    weighted = output * top_k_weights.reshape(-1, 1)
    return weighted.view(tokens, k, -1).sum(dim=1).to(hidden_states.dtype)
