"""Which outputs of a fused projection are queries, keys and values: found by what depends on what."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from adapterhub.errors import SiteError
from adapterhub.sites import probe
from adapterhub.sites.layout import Projection, Sublayer

_NEGLIGIBLE = 1e-5  # of the largest gradient


class _EnoughError(Exception):
    """Ends a forward pass once what was wanted of it is known."""


def fused_rows(model: PreTrainedModel, sublayer: Sublayer, projection: Projection) -> dict[str, Tensor]:
    """Indices of the outputs of ``projection`` (of role ``qkv`` or ``kv``) that are ``q``, ``k`` and ``v``.

    Two facts about attention tell them apart, in whatever order they stand. Where every position has the same queries,
    keys and values, attention gives a mean of equal values: it depends on the values alone. And what it gives at the
    last position depends on the keys and values of the positions before, not on their queries.

    Raises:
        SiteError: if they cannot be told apart so.
    """
    out = next(one.path for one in sublayer.projections if one.role == "o")
    with still(model):
        values = _dependence(model, projection.path, out, lambda like: torch.randn_like(like[:1]).expand_as(like), None)
        before = _dependence(model, projection.path, out, torch.randn_like, -1)
    roles = {"q": ~(values | before), "k": before & ~values, "v": values}
    found = {role: mask.nonzero().flatten() for role, mask in roles.items() if role in projection.role}
    if any(not len(rows) for rows in found.values()):
        raise SiteError(
            f"{projection.path}: its queries, keys and values could not be told apart. Name the module as a whole as "
            "the target instead."
        )
    return found


def _dependence(
    model: PreTrainedModel, path: str, out: str, draw: Callable[[Tensor], Tensor], position: int | None
) -> Tensor:
    """Which outputs of the module at ``path`` the input of ``out`` depends on; of shape ``[outputs]``, Booleans.

    What the module gives is replaced by what ``draw`` gives. With a ``position`` only the input of ``out`` there
    counts, and only the outputs of ``path`` at positions before.
    """
    leaf: Tensor | None = None
    gradient: Tensor | None = None

    def replace(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        nonlocal leaf
        leaf = draw(output.detach().reshape(-1, output.shape[-1])).detach().clone().requires_grad_()
        return leaf.view(output.shape)

    def differentiate(module: nn.Module, args: tuple[Any, ...]) -> None:
        nonlocal gradient
        if leaf is None:
            return
        read = args[0].reshape(-1, args[0].shape[-1])
        read = read if position is None else read[position]
        (gradient,) = torch.autograd.grad((read * torch.randn_like(read)).sum(), leaf)
        raise _EnoughError

    def attempt(base: PreTrainedModel, kwargs: dict[str, Any]) -> Tensor:
        with suppress(_EnoughError):
            base.forward(**kwargs)
        if gradient is None:
            raise SiteError(f"{out} did not run after {path}")
        return gradient

    with ExitStack() as stack:
        stack.callback(model.get_submodule(path).register_forward_hook(replace).remove)
        stack.callback(model.get_submodule(out).register_forward_pre_hook(differentiate).remove)
        found = probe.run(model, attempt)
    # Where positions share their values, a gradient at one position alone is no sign of dependence: the sum is.
    size = found.sum(0).abs() if position is None else found[:position].abs().amax(0)
    return size > _NEGLIGIBLE * size.max()


@contextmanager
def still(model: PreTrainedModel) -> Iterator[None]:
    """The model without dropout, and random numbers as they were afterwards."""
    was_training = [module for module in model.modules() if module.training]
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        for module in was_training:
            module.training = False
        try:
            yield
        finally:
            for module in was_training:
                module.training = True
