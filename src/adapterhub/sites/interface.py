"""Sites described by hand: the names that a model gives to the parts which adapters need, as ``adapters`` asks them.

A description is for a model in which discovery finds nothing. What it does not say is not guessed: prefix tuning needs
an attention that has been seen to ask transformers' attention interface, which a description does not tell.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from operator import attrgetter
from pathlib import Path
from typing import Any, Self

from torch import nn
from transformers import PreTrainedModel

from adapterhub.errors import SiteError
from adapterhub.sites.discovery import is_norm
from adapterhub.sites.layout import Embeddings, Layer, Norm, Projection, Sites, Sublayer, SublayerKind

INTERFACE_FILE = "adapter_interface.json"


@dataclass(frozen=True)
class AdapterModelInterface:
    """Where a model has what adapters need, as ``adapters`` has it said; ``adapterhub.init(model, interface=...)``.

    ``base_model`` is the attribute that holds the base model (by default as transformers names it),
    ``model_embeddings`` and ``model_layers`` are paths in it, ``layer_...`` paths in a layer, ``attn_...`` in an
    attention. Either ``attn_q_proj``, ``attn_k_proj`` and ``attn_v_proj`` are named, or ``attn_qkv_proj``.
    ``layer_pre_self_attn``, ``layer_pre_cross_attn`` and ``layer_pre_ffn`` are the modules that read the residual
    stream before a sublayer; where one is not named, what the layer reads is taken. ``layer_ln_1`` and ``layer_ln_2``
    count as norms of the sum with the residual where both are named and no norm comes before the sublayers.
    ``adapter_methods`` has no effect: what is described can be used by every method.

    Raises:
        SiteError: if neither or both kinds of projections are named.
    """

    adapter_methods: list[str]
    model_embeddings: str
    model_layers: str
    layer_self_attn: str
    layer_cross_attn: str | None = None
    attn_o_proj: str | None = None
    layer_intermediate_proj: str | None = None
    layer_output_proj: str | None = None
    attn_k_proj: str | None = None
    attn_q_proj: str | None = None
    attn_v_proj: str | None = None
    attn_qkv_proj: str | None = None
    layer_pre_self_attn: str | None = None
    layer_pre_cross_attn: str | None = None
    layer_pre_ffn: str | None = None
    layer_ln_1: str | None = None
    layer_ln_2: str | None = None
    base_model: str | None = None

    def __post_init__(self) -> None:
        apart = all((self.attn_q_proj, self.attn_k_proj, self.attn_v_proj))
        if apart == bool(self.attn_qkv_proj):
            raise SiteError("an interface names attn_q_proj, attn_k_proj and attn_v_proj, or else attn_qkv_proj")

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return asdict(self)

    def content(self, model_type: str, version: str) -> dict[str, Any]:
        """What ``adapters`` keeps of an interface in ``adapter_interface.json``."""
        return {"interface": self.to_dict(), "model_type": model_type, "version": version}

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """The interface in the ``adapter_interface.json`` of a folder, or None if there is no such file.

        Raises:
            SiteError: if it is not one.
        """
        path = folder / INTERFACE_FILE
        if not path.is_file():
            return None
        try:
            given = json.loads(path.read_text(encoding="utf-8"))["interface"]
            return cls(**{field.name: given[field.name] for field in fields(cls) if field.name in given})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SiteError(f"{path} is no interface of a model: {error}") from error

    def sites(self, model: PreTrainedModel) -> Sites:
        """The sites of ``model`` that are described.

        Raises:
            SiteError: for a path at which the model has nothing.
        """
        prefix = self._prefix(model)
        found = _get(model, prefix + self.model_layers)
        if not isinstance(found, nn.ModuleList | nn.Sequential):
            raise SiteError(f"{prefix}{self.model_layers} of {type(model).__name__} is no list of layers")
        paths = [f"{prefix}{self.model_layers}.{name}" for name, _ in found.named_children()]
        layers = tuple(self._layer(model, index, path) for index, path in enumerate(paths))
        if not any(layer.sublayers for layer in layers):
            raise SiteError(f"the layers of {type(model).__name__} have none of the sublayers that are described")
        return Sites(
            type(model).__name__, layers, tuple(_norms(model, layers)), self._embeddings(model, prefix, layers)
        )

    def _layer(self, model: nn.Module, index: int, path: str) -> Layer:
        sublayers = tuple(self._sublayers(model, index, path))
        return Layer(index, f"layers.{index}", "", path, sublayers[-1].width if sublayers else 0, sublayers)

    def _prefix(self, model: PreTrainedModel) -> str:
        name = self.base_model or model.base_model_prefix
        return f"{name}." if name and hasattr(model, name) else ""

    def _sublayers(self, model: nn.Module, index: int, layer: str) -> Iterator[Sublayer]:
        attentions: tuple[tuple[SublayerKind, str | None, str | None], ...] = (
            ("attention", self.layer_self_attn, self.layer_pre_self_attn),
            ("cross_attention", self.layer_cross_attn, self.layer_pre_cross_attn),
        )
        for kind, path, before in attentions:
            if path is not None and _has(model, f"{layer}.{path}") and self.attn_o_proj is not None:
                norm = self.layer_ln_1 if kind == "attention" else None
                projections = self._attention_projections(f"{layer}.{path}")
                yield self._sublayer(model, kind, index, layer, before, projections, norm)
        if self.layer_intermediate_proj is not None and self.layer_output_proj is not None:
            paths = (f"{layer}.{self.layer_intermediate_proj}", f"{layer}.{self.layer_output_proj}")
            projections = (Projection("up", paths[0]), Projection("down", paths[1]))
            before = self.layer_pre_ffn or self.layer_pre_self_attn
            yield self._sublayer(model, "feed_forward", index, layer, before, projections, self.layer_ln_2)

    def _attention_projections(self, attention: str) -> tuple[Projection, ...]:
        named = {"qkv": self.attn_qkv_proj, "q": self.attn_q_proj, "k": self.attn_k_proj, "v": self.attn_v_proj}
        named["o"] = self.attn_o_proj
        return tuple(Projection(role, f"{attention}.{path}") for role, path in named.items() if path is not None)

    def _sublayer(
        self,
        model: nn.Module,
        kind: SublayerKind,
        index: int,
        layer: str,
        before: str | None,
        projections: tuple[Projection, ...],
        norm: str | None,
    ) -> Sublayer:
        for projection in projections:
            _get(model, projection.path)
        output = projections[-1].path
        residual = layer if before is None else f"{layer}.{before}"
        _get(model, residual)
        after = f"{layer}.{norm}" if norm is not None and self._norms_after(model, layer) else None
        width = _outputs(_get(model, output))
        return Sublayer(f"layers.{index}.{kind}", kind, index, width, residual, output, after, projections)

    def _norms_after(self, model: nn.Module, layer: str) -> bool:
        """Whether the layers normalise the sum of a sublayer and its residual, and not what a sublayer reads."""
        before = [one for one in (self.layer_pre_self_attn, self.layer_pre_ffn) if one is not None]
        first = any(is_norm(_get(model, f"{layer}.{one}")) for one in before)
        return self.layer_ln_1 is not None and self.layer_ln_2 is not None and not first

    def _embeddings(self, model: PreTrainedModel, prefix: str, layers: tuple[Layer, ...]) -> Embeddings | None:
        around = _get(model, prefix + self.model_embeddings)
        table = next((one for one in around.modules() if isinstance(one, nn.Embedding)), None)
        path = next((path for path, module in model.named_modules() if module is table), None)
        if table is None or path is None or table.embedding_dim != layers[0].sublayers[0].width:
            return None
        return Embeddings(path, layers[0].path, True, table.embedding_dim)


def described(source: "Sites | AdapterModelInterface", model: PreTrainedModel) -> Sites:
    """The sites that were described by hand, in either way.

    Raises:
        SiteError: if they name a module that is not there.
    """
    if isinstance(source, AdapterModelInterface):
        return source.sites(model)
    source.check(model)
    return source


def _norms(model: nn.Module, layers: tuple[Layer, ...]) -> Iterator[Norm]:
    for layer in layers:
        inside = _get(model, layer.path).named_modules()
        for number, path in enumerate(path for path, module in inside if is_norm(module)):
            yield Norm(f"{layer.name}.norms.{number}", f"{layer.path}.{path}", layer.index)


def _has(model: nn.Module, path: str) -> bool:
    try:
        attrgetter(path)(model)
    except AttributeError:
        return False
    return True


def _get(model: nn.Module, path: str) -> nn.Module:
    try:
        return model.get_submodule(path)
    except AttributeError:
        raise SiteError(f"{type(model).__name__} has no module {path!r}, which the interface names") from None


def _outputs(module: Any) -> int:
    """The number of outputs of a linear map, of either kind that transformers has."""
    return int(getattr(module, "out_features", None) or getattr(module, "nf", None) or module.weight.shape[0])
