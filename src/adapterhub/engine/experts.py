"""The weights of experts, of which one parameter holds those of a whole layer."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from adapterhub.engine.named import ADDED
from adapterhub.engine.program import Call, Read, Step
from adapterhub.methods import Place, Weight
from adapterhub.sites import Sites, experts
from adapterhub.sites.experts import Routing


@dataclass(frozen=True, eq=False)
class ExpertsWeight(Weight):
    """The parameter ``name`` of a module of experts; with a ``routing``, as it is applied to tokens."""

    module: Any
    name: str
    routing: Routing | None = None

    @property
    def experts(self) -> int:  # type: ignore[override]
        return int(getattr(self.module, self.name).shape[0])

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.matrix.shape[1:])

    @property
    def matrix(self) -> Tensor:
        stored: Tensor = getattr(self.module, self.name)
        return stored.mT if self.module.is_transposed else stored

    @property
    def bias(self) -> Tensor | None:
        return getattr(self.module, f"{self.name}_bias") if self.module.has_bias else None

    def apply(self, matrix: Tensor, inputs: Tensor) -> Tensor:
        return self._routed.linear(inputs, matrix)

    def apply_factors(self, down: Tensor, up: Tensor, inputs: Tensor) -> Tensor:
        return self._routed.linear(inputs, down, up)

    def spread(self, vector: Tensor) -> Tensor:
        return vector[self._routed.experts]

    @torch.no_grad()
    def put(self, matrix: Tensor, bias: Tensor | None) -> None:
        self.matrix.copy_(matrix)
        if bias is not None and self.bias is not None:
            self.bias.copy_(bias)

    @property
    def _routed(self) -> Routing:
        assert self.routing is not None
        return self.routing


@dataclass(frozen=True, eq=False)
class ExpertStep(Step):
    """A part at a weight of experts; it reads tokens ``[..., in]``, and the expert of each ``[...]``."""

    row_by_row: ClassVar[bool] = False  # experts see tokens of all rows

    def __call__(self, state: Tensor, read: Read, call: Call) -> Tensor:
        return self._of_tokens(self.part, state, read)

    def change(self, state: Tensor, read: Read, call: Call) -> Tensor:
        update: Any = self.part.update
        return self._of_tokens(update, state, read)

    def _of_tokens(self, function: Callable[..., Tensor], state: Tensor, read: Read) -> Tensor:
        inputs, chosen = read
        (weight,) = self.fixed
        routed = replace(weight, routing=Routing.of(chosen.flatten(), weight.experts))
        return function(state.flatten(0, -2), inputs.flatten(0, -2), routed).view_as(state)


def expert_places(model: PreTrainedModel, sites: Sites) -> Iterator[Place]:
    """A place for every parameter that holds a weight of all experts of a layer.

    It is named by the layer and its role (``layers.0.feed_forward.experts.down``), or by its path where a layer has
    several such modules.
    """
    found = {
        path: list(experts.weights(module))
        for path, module in model.named_modules()
        if path.partition(".")[0] not in ADDED
    }
    for layer in sites.layers:
        inside = [path for path, weights in found.items() if weights and path.startswith(f"{layer.path}.")]
        for path in inside:
            for name, role in found[path]:
                weight = ExpertsWeight(model.get_submodule(path), name)
                own = (
                    f"feed_forward.experts.{role}"
                    if len(inside) == 1
                    else f"{path.removeprefix(layer.path)[1:]}.{name}"
                )
                yield Place(
                    "experts",
                    f"{layer.name}.{own}",
                    role,
                    layer.index,
                    weight.shape[0],
                    path=f"{path}.{name}",
                    expert_weight=weight,
                )
