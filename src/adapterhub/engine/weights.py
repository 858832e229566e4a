"""The weights of a model as matrices: one class for each way in which modules of today store and apply one."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from adapterhub.engine.named import ADDED
from adapterhub.engine.setup import AdapterSetup
from adapterhub.engine.stored import values_of
from adapterhub.methods import Place, Weight
from adapterhub.methods.stacked import linear
from adapterhub.sites import Projection, Sites, Sublayer
from adapterhub.sites.fused import fused_rows


@dataclass(frozen=True, eq=False)
class LinearWeight(Weight):
    """Of ``nn.Linear`` and its like: ``[out, in]``."""

    module: Any
    takes_stacks = True

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.module.out_features, self.module.in_features)

    @property
    def matrix(self) -> Tensor:
        return values_of(self.module)

    @property
    def bias(self) -> Tensor | None:
        return self.module.bias

    def apply(self, matrix: Tensor, inputs: Tensor) -> Tensor:
        return F.linear(inputs, matrix)

    def apply_factors(self, down: Tensor, up: Tensor, inputs: Tensor) -> Tensor:
        return linear(linear(inputs, down), up)

    @torch.no_grad()
    def put(self, matrix: Tensor, bias: Tensor | None) -> None:
        self.module.weight.copy_(matrix)
        if bias is not None:
            self.module.bias.copy_(bias)


class TransposedWeight(LinearWeight):
    """Of the ``Conv1D`` of transformers: a linear map stored as ``[in, out]``."""

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.module.nf, self.module.nx)

    @property
    def matrix(self) -> Tensor:
        return self.module.weight.T

    def put(self, matrix: Tensor, bias: Tensor | None) -> None:
        super().put(matrix.T, bias)


class EmbeddingWeight(LinearWeight):
    """Of ``nn.Embedding``, stored as ``[tokens, width]``; some models scale what they look up."""

    takes_stacks = False

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.module.embedding_dim, self.module.num_embeddings)

    @property
    def matrix(self) -> Tensor:
        return values_of(self.module).T

    @property
    def bias(self) -> Tensor | None:
        return None

    def apply(self, matrix: Tensor, inputs: Tensor) -> Tensor:
        return self._scaled(F.embedding(inputs, matrix.T))

    def apply_factors(self, down: Tensor, up: Tensor, inputs: Tensor) -> Tensor:
        return self._scaled(F.linear(F.embedding(inputs, down.T), up))

    @torch.no_grad()
    def put(self, matrix: Tensor, bias: Tensor | None) -> None:
        self.module.weight.copy_(matrix.T)

    def _scaled(self, values: Tensor) -> Tensor:
        scale = getattr(self.module, "embed_scale", None)
        return values if scale is None else values * torch.as_tensor(scale, dtype=values.dtype, device=values.device)


class ConvolutionWeight(LinearWeight):
    """Of ``nn.Conv1d``, ``nn.Conv2d``, ``nn.Conv3d``: ``[out, in / groups, *kernel]``."""

    takes_stacks = False

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.module.weight.shape)

    def apply(self, matrix: Tensor, inputs: Tensor) -> Tensor:
        bare: Tensor = self.module._conv_forward(inputs, matrix, None)
        return bare

    def apply_factors(self, down: Tensor, up: Tensor, inputs: Tensor) -> Tensor:
        if self.module.groups > 1:  # each group has inputs of its own: the factors alone do not say whose
            return self.apply((up @ down.flatten(1)).view(-1, *down.shape[1:]), inputs)
        reduced = self.apply(down, inputs)
        return torch.einsum("or,br...->bo...", up, reduced)

    def spread(self, vector: Tensor) -> Tensor:
        return vector.view(-1, *(1,) * (self.module.weight.dim() - 2))


class GroupedWeight(LinearWeight):
    """Of a linear map with a block for each group of inputs ``[..., groups, in]``: ``[groups * out, in]``."""

    takes_stacks = False

    def apply(self, matrix: Tensor, inputs: Tensor) -> Tensor:
        return torch.einsum("...gi,goi->...go", inputs, self.spread(matrix))

    def apply_factors(self, down: Tensor, up: Tensor, inputs: Tensor) -> Tensor:
        return self.apply(up, F.linear(inputs, down))

    def spread(self, vector: Tensor) -> Tensor:
        return vector.view(self.module.n_groups, -1, *vector.shape[1:])


class FirstWeight(LinearWeight):
    """Of a linear map that gives more than its result, which stands first."""

    def select(self, output: Any) -> Tensor:
        first: Tensor = output[0] if isinstance(output, tuple) else output
        return first

    def replace(self, output: Any, values: Tensor) -> Any:
        return (values, *output[1:]) if isinstance(output, tuple) else values


@dataclass(frozen=True, eq=False)
class PartOfWeight(Weight):
    """Some outputs of a fused linear map; ``find`` says which, when that is first asked."""

    whole: LinearWeight
    find: Callable[[], Tensor]

    @cached_property
    def rows(self) -> Tensor:
        """Indices of the outputs, in order."""
        return self.find()

    @property
    def takes_stacks(self) -> bool:  # type: ignore[override]
        return self.whole.takes_stacks

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.rows), *self.whole.shape[1:])

    @property
    def matrix(self) -> Tensor:
        return self.whole.matrix[self._here(self.whole.matrix)]

    @property
    def bias(self) -> Tensor | None:
        bias = self.whole.bias
        return None if bias is None else bias[self._here(bias)]

    def apply(self, matrix: Tensor, inputs: Tensor) -> Tensor:
        return self.whole.apply(matrix, inputs)

    def apply_factors(self, down: Tensor, up: Tensor, inputs: Tensor) -> Tensor:
        return self.whole.apply_factors(down, up, inputs)

    def select(self, output: Tensor) -> Tensor:
        return output.index_select(-1, self._here(output))

    def replace(self, output: Tensor, values: Tensor) -> Tensor:
        return output.index_copy(-1, self._here(output), values)

    def put(self, matrix: Tensor, bias: Tensor | None) -> None:
        all_values = self.whole.matrix.clone()
        all_values[self._here(all_values)] = matrix.to(all_values.dtype)
        all_biases = None if self.whole.bias is None else self.whole.bias.clone()
        if all_biases is not None and bias is not None:
            all_biases[self._here(all_biases)] = bias.to(all_biases.dtype)
        self.whole.put(all_values, all_biases)

    def _here(self, like: Tensor) -> Tensor:
        return self.rows.to(like.device)


_KINDS: tuple[tuple[Any, type[LinearWeight], str], ...] = (
    (nn.Linear, LinearWeight, "other"),
    (Conv1D, TransposedWeight, "other"),
    (nn.Embedding, EmbeddingWeight, "embedding"),
    ((nn.Conv1d, nn.Conv2d, nn.Conv3d), ConvolutionWeight, "other"),
)


def weight_places(model: PreTrainedModel, sites: Sites) -> Iterator[Place]:
    """A place for every weight of ``model``, and for queries, keys and values that stand in one weight together.

    Projections of a sublayer are named by it and their role (``layers.0.attention.q``), or by it and the end of
    their path where several have that role; all others ``base.`` and their path in the base model, or ``outside.`` and
    their path where they are not part of that.
    """
    projections = {p.path: (sub, p) for sub in sites.sublayers for p in sub.projections}
    base = next((f"{path}." if path else "" for path, one in model.named_modules() if one is model.base_model), "")
    rows = _Rows(model)
    for path, module in model.named_modules():
        weight, role = _weight(module)
        if weight is None or path.partition(".")[0] in ADDED:
            continue
        layer = next((layer.index for layer in sites.layers if path.startswith(f"{layer.path}.")), None)
        if path not in projections:
            name = f"base.{path.removeprefix(base)}" if path.startswith(base) else f"outside.{path}"
            yield Place("weight", name, role, layer, weight.shape[0], path=path, weight=weight)
            continue
        sublayer, projection = projections[path]
        layer, name = sublayer.layer, _name(sublayer, projection, projection.role)
        yield Place("weight", name, projection.role, layer, weight.shape[0], path=path, weight=weight)
        for part in _parts(projection):
            fused = PartOfWeight(weight, partial(rows.find, sublayer, projection, part))
            name = _name(sublayer, projection, part)
            yield Place("weight", name, part, layer, 0, path=path, weight=fused, whole=False)


def _parts(projection: Projection) -> str:
    """The roles that stand together in a fused projection."""
    return projection.role if projection.role in ("qkv", "kv") else ""


def _name(sublayer: Sublayer, projection: Projection, role: str) -> str:
    """The sublayer and the role; or the end of the path, as long as it has to be, where others there have that role."""
    others = [one for one in sublayer.projections if one.path != projection.path]
    rivals = [f".{one.path}" for one in others if role == one.role or role in _parts(one)]
    if not rivals:
        return f"{sublayer.name}.{role}"
    words = projection.path.split(".")
    tails = (".".join(words[-length:]) for length in range(1, len(words) + 1))
    tail = next(tail for tail in tails if not any(path.endswith(f".{tail}") for path in rivals))
    return f"{sublayer.name}.{tail}" + (f".{role}" if role != projection.role else "")


def _weight(module: nn.Module) -> tuple[LinearWeight | None, str]:
    if isinstance(module, nn.Linear) and hasattr(module, "n_groups"):
        return GroupedWeight(module), "other"
    for kind, made, role in _KINDS:
        if isinstance(module, kind):
            return made(module), role
    return (FirstWeight(module), "other") if _has_matrix(module) else (None, "")


def _has_matrix(module: nn.Module) -> bool:
    """Whether a class of its own is a linear map, by its sizes; one that computes in integers is none."""
    weight, sizes = getattr(module, "weight", None), [getattr(module, f"{name}_features", 0) for name in ("out", "in")]
    plain = isinstance(weight, nn.Parameter) and list(weight.shape) == sizes and hasattr(module, "bias")
    return plain and not getattr(module, "quant_mode", False)


class _Rows:
    """Finds the rows of fused projections, once for all that are alike."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.found: dict[tuple[str, ...], dict[str, Tensor]] = {}

    def find(self, sublayer: Sublayer, projection: Projection, role: str) -> Tensor:
        owner, _, last = projection.path.rpartition(".")
        module = self.model.get_submodule(projection.path)
        key = (type(self.model.get_submodule(owner)).__qualname__, last, str(tuple(module.weight.shape)))
        if key not in self.found:
            with AdapterSetup(None):  # the bare model is to be looked at, whatever is active
                self.found[key] = fused_rows(self.model, sublayer, projection)
        return self.found[key][role]
