"""Which hooks a plan needs, and where."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import nn

from adapterhub.engine.adapter import prompt_sites
from adapterhub.engine.hooks import (
    BatchHook,
    EmbeddingHook,
    ExpertsHook,
    Hook,
    InverseHook,
    LayerHook,
    NormHook,
    PrefixHook,
    RepeatHook,
    SideHook,
    WeightHook,
)
from adapterhub.engine.moved import PositionHook
from adapterhub.engine.plan import Plan
from adapterhub.engine.prompt_hook import InsertHook, PromptHook
from adapterhub.engine.sublayer_hook import SublayerHook

if TYPE_CHECKING:
    from adapterhub.engine.engine import Engine

Make = Callable[[], Hook]


def key(kind: type[Hook], site: str = "") -> str:
    """What a hook of a kind at a site, by its name or path, is kept under."""
    return f"{kind.__name__} {site}"


def needed(engine: "Engine", plan: Plan) -> Iterator[tuple[str, Make]]:
    """Every hook of a plan, and how it is made."""
    sites = engine.sites
    for layer in sites.layers:
        if layer.path in plan.layers:
            yield key(LayerHook, layer.path), partial(LayerHook, engine, layer)
        if layer.path in plan.sides:
            yield key(SideHook, layer.path), partial(SideHook, engine, layer)
    for sublayer in sites.sublayers:
        if sublayer.name in plan.prefixes and sublayer.attention is not None:
            yield key(PrefixHook, sublayer.name), partial(PrefixHook, engine, sublayer.name, sublayer.attention)
        if sublayer.name in plan.sublayers:
            yield key(SublayerHook, sublayer.name), partial(SublayerHook, engine, sublayer)
    for norm in sites.norms:
        if norm.path in plan.norms:
            yield key(NormHook, norm.path), partial(NormHook, engine, norm)
    for path in plan.weights:
        yield key(WeightHook, path), partial(WeightHook, engine, path)
    for path in plan.experts:
        yield key(ExpertsHook, path), partial(ExpertsHook, engine, path)
    if plan.moved is not None:
        yield key(PositionHook), partial(PositionHook, engine)
    if plan.channels > 1 and engine.model.base_model is not engine.model:  # the call of any other is seen as a whole
        yield key(BatchHook), partial(BatchHook, engine)
    for path, index in plan.repeated(sites):
        yield key(RepeatHook, path), partial(RepeatHook, engine, path, index)
    yield from _of_embeddings(engine, plan)


def _of_embeddings(engine: "Engine", plan: Plan) -> Iterator[tuple[str, Make]]:
    for name, site in prompt_sites(engine.sites).items():
        if name in plan.prompts:
            yield key(PromptHook, name), partial(PromptHook, engine, name, site)
        if name in plan.prompts_apart:
            yield key(InsertHook, name), partial(InsertHook, engine, name, site)
    if engine.sites.embeddings is None or plan.embeddings is None:
        return
    yield key(EmbeddingHook), partial(EmbeddingHook, engine, engine.sites.embeddings)
    if (output := _tied_output(engine)) is not None:
        yield key(InverseHook), partial(InverseHook, engine, output)


def _tied_output(engine: "Engine") -> nn.Module | None:
    """The module of the output embeddings, if they are the input embeddings too."""
    output: Any = engine.model.get_output_embeddings()
    if output is None or engine.sites.embeddings is None:
        return None
    table: Any = engine.model.get_submodule(engine.sites.embeddings.table)
    return output if output.weight is table.weight else None
