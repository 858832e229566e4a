"""A frozen base model while something small trains on it: in half precision, and in evaluation mode."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import TrainingArguments

from adapterhub.model import AdapterMixin


@contextmanager
def half_precision_base(model: AdapterMixin) -> Iterator[None]:
    """Within this context, what is frozen of the base model and in float32 is in bfloat16.

    Autocast casts the weights of a frozen model anew in every step (its cache is for those that train); this casts them
    once. Their own values are kept, so that the base takes half as much memory again; ``state_dict`` still gives them,
    and they are back to the bit afterwards. Parameters that train, and those that transformers keeps in float32 in any
    model of bfloat16, stay as they are. Use it with autocast. Contexts may be nested.
    """
    kept = {parameter: parameter.data for parameter in _castable(model)}
    with ExitStack() as stack:
        for module in model.modules():
            own = {name: kept[one] for name, one in module.named_parameters(recurse=False) if one in kept}
            if own:
                stack.callback(module.register_state_dict_post_hook(partial(_put_back, own)).remove)
        try:
            for parameter, values in kept.items():
                parameter.data = values.to(torch.bfloat16)
            yield
        finally:
            for parameter, values in kept.items():
                parameter.data = values.to(parameter.device)


def _castable(model: AdapterMixin) -> set[nn.Parameter]:
    single = tuple(getattr(model, "_keep_in_fp32_modules_strict", None) or ())
    strict = {parameter for name, parameter in model.named_parameters() if any(part in name for part in single)}
    return {
        parameter
        for parameter in model.base_parameters()
        if not parameter.requires_grad
        and parameter.dtype == torch.float32
        and not parameter.is_meta
        and parameter not in strict
    }


def _put_back(
    own: Mapping[str, Tensor], module: nn.Module, state: dict[str, Any], prefix: str, metadata: dict[str, Any]
) -> None:
    """Put a module's own values into its state dict."""
    state |= {prefix + name: values for name, values in own.items()}


def frozen_modules(model: AdapterMixin) -> list[nn.Module]:
    """The modules of a base model of which nothing trains; none, where a parameter of it does.

    Layers under gradient checkpointing are left out: in evaluation mode they would not be checkpointed. What is inside
    of them is not.
    """
    if any(parameter.requires_grad for parameter in model.base_parameters()):
        return []
    added = (model.adapters, model.fusions, *getattr(model, "heads", {}).values())
    apart = {module for container in added for module in container.modules()}
    modules = (module for module in model.base_model.modules() if module not in apart)
    return [module for module in modules if not getattr(module, "gradient_checkpointing", False)]


def stop_dropout(modules: Iterable[nn.Module]) -> None:
    """Put just these modules into evaluation mode, and not what is inside of them."""
    for module in modules:
        module.training = False


class FrozenBaseMixin:
    """A ``Trainer`` that computes a frozen base in half precision, and without dropout if ``base_dropout`` is False.

    The first goes with mixed precision in bfloat16, and is left to them where DeepSpeed or FSDP hold the parameters.
    """

    base_dropout: bool = True
    half_base: bool = True
    _frozen: list[nn.Module] | None = None  # of the training under way

    if TYPE_CHECKING:
        args: TrainingArguments
        accelerator: Any
        model: Any
        is_deepspeed_enabled: bool
        is_fsdp_enabled: bool

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train; see ``transformers.Trainer``."""
        with self._computing_base():
            try:
                return super().train(*args, **kwargs)  # type: ignore[misc]
            finally:
                if self._frozen:
                    self._adapted().train(any(module.training for module in self._adapted().modules()))
                self._frozen = None

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate or predict; see ``transformers.Trainer``."""
        with self._computing_base():
            return super().evaluation_loop(*args, **kwargs)  # type: ignore[misc]

    def compute_loss_context_manager(self) -> Any:
        """Entered by each step between ``model.train()`` and the forward pass."""
        if not self.base_dropout and self._adapted().training:
            if self._frozen is None:
                self._frozen = frozen_modules(self._adapted())
            stop_dropout(self._frozen)
        return super().compute_loss_context_manager()  # type: ignore[misc]

    @contextmanager
    def _computing_base(self) -> Iterator[None]:
        with ExitStack() as stack:
            apart = self.is_deepspeed_enabled or self.is_fsdp_enabled
            if self.half_base and self.accelerator.mixed_precision == "bf16" and not apart:
                stack.enter_context(half_precision_base(self._adapted()))
            yield

    def _adapted(self) -> Any:
        return self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
