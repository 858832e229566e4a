"""What discovery found in a model: its layers, their sublayers, projections and norms, as plain data.

Names of sites are the same for every architecture, so that an adapter does not depend on how a modelling file
calls its modules: ``layers.3.attention``, ``decoder.layers.0.cross_attention``, ``vision_model.layers.2.feed_forward``.
Paths are module paths in the model that was inspected.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from adapterhub.errors import SiteError

SublayerKind = Literal["attention", "cross_attention", "feed_forward"]


@dataclass(frozen=True)
class Projection:
    """A linear map inside a sublayer: role ``q k v qkv kv o up gate gate_up down`` (or ``other``) and path."""

    role: str
    path: str


@dataclass(frozen=True)
class Norm:
    """A normalisation module: its site name, its path and the layer it stands in (None outside the layers)."""

    name: str
    path: str
    layer: int | None


@dataclass(frozen=True)
class Attention:
    """Where keys and values are read: the module that calls the attention function.

    ``heads`` are those of the keys, ``key_width`` and ``value_width`` those of one head. ``bias_at`` is the module that
    makes its relative position bias (in T5 the attention of a tower's first layer), None where it has none.
    """

    path: str
    heads: int
    key_width: int
    value_width: int
    bias_at: str | None = None


@dataclass(frozen=True)
class Sublayer:
    """An attention or feed-forward sublayer ``h = f(x)`` whose output is added to the residual stream ``x``.

    ``residual_at`` is the module whose first argument is x; ``output_at`` is the last module that yields h before
    the addition (a tensor, or the first item of a tuple). ``norm`` is the layer norm applied to ``h + x`` where the
    model is of the post-norm kind, else None. ``attention`` is None in a feed-forward, and where a model does not ask
    transformers' attention interface for its function. ``adds`` is False where the model does not add h to x, but mixes
    it into several residual streams, of which x is made. ``ends_layer`` is True where the layer gives h + x, or the
    norm of it, and nothing else.
    """

    name: str
    kind: SublayerKind
    layer: int
    width: int
    residual_at: str
    output_at: str
    norm: str | None
    projections: tuple[Projection, ...]
    attention: Attention | None = None
    adds: bool = True
    ends_layer: bool = False


@dataclass(frozen=True)
class Layer:
    """One repeated block; ``index`` counts over all towers, in the order in which they run.

    ``width`` is that of what it gives, the residual stream after it; 0 where that is no row of tokens.
    """

    index: int
    name: str
    tower: str
    path: str
    width: int
    sublayers: tuple[Sublayer, ...]


@dataclass(frozen=True)
class Embeddings:
    """Where embedded tokens can be changed before the first layer: what the module at ``path`` reads, or gives.

    ``table`` is the path of the module that maps tokens to vectors of ``width``. ``reader`` is that of the one that
    takes tokens (``input_ids``) or such vectors in their place (``inputs_embeds``), None where there is none;
    ``positions`` that of its table of absolute positions, or of what computes them, None where it has neither.
    """

    table: str
    path: str
    reads: bool
    width: int
    reader: str | None = None
    positions: str | None = None


@dataclass(frozen=True)
class Sites:
    """Every place of a model where an adapter can act.

    ``batch_first`` is False for a model whose layers take ``[seq, batch, hidden]``. ``decoder_embeddings`` are those of
    a decoder that reads tokens after an encoder that does.
    """

    model_class: str
    layers: tuple[Layer, ...]
    norms: tuple[Norm, ...]
    embeddings: Embeddings | None
    batch_first: bool = True
    decoder_embeddings: Embeddings | None = None

    @property
    def sublayers(self) -> Iterator[Sublayer]:
        """All sublayers, layer by layer."""
        return (sublayer for layer in self.layers for sublayer in layer.sublayers)

    @property
    def towers(self) -> tuple[str, ...]:
        """Names of the towers (stacks of layers) in running order; one unnamed tower is ``""``."""
        return tuple(dict.fromkeys(layer.tower for layer in self.layers))

    def tower_path(self, tower: str) -> str:
        """The path of the outermost module that holds all layers of a tower and no other's (``""``: the model)."""
        inside = [layer.path.split(".") for layer in self.layers if layer.tower == tower]
        others = [layer.path.split(".") for layer in self.layers if layer.tower != tower]
        depth = 0
        while any(other[:depth] == inside[0][:depth] for other in others):
            depth += 1
        return ".".join(inside[0][:depth])

    def check(self, model: nn.Module) -> None:
        """Pass sites of which every path is one of ``model``.

        Raises:
            SiteError: naming the first that is not.
        """
        for path in self._paths():
            try:
                model.get_submodule(path)
            except AttributeError as error:
                raise SiteError(f"{type(model).__name__} has no module {path!r}, which the sites name") from error

    def _paths(self) -> Iterator[str]:
        yield from (layer.path for layer in self.layers)
        yield from (norm.path for norm in self.norms)
        for sub in self.sublayers:
            yield from filter(None, (sub.residual_at, sub.output_at, sub.norm))
            if sub.attention is not None:
                yield from filter(None, (sub.attention.path, sub.attention.bias_at))
            yield from (projection.path for projection in sub.projections)
        for site in filter(None, (self.embeddings, self.decoder_embeddings)):
            yield from (site.table, site.path)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary of everything that was found."""
        from dataclasses import asdict

        return asdict(self)

    def __str__(self) -> str:
        lines = [f"{self.model_class}: {len(self.layers)} layers, {sum(1 for _ in self.sublayers)} sublayers"]
        for layer in self.layers:
            lines.append(f"{layer.name}  ({layer.path})")
            for sub in layer.sublayers:
                placing = f"post-norm {sub.norm}" if sub.norm else "pre-norm"
                roles = " ".join(projection.role for projection in sub.projections)
                kind = sub.name.rsplit(".", 1)[-1]
                lines.append(f"  {kind:<15} width {sub.width}  at {sub.output_at}  {placing}  [{roles}]")
        return "\n".join(lines)
