"""Fusions made smaller: which adapters are attended to, and a fusion over some of them with the trained weights."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from adapterhub.checkpoints import load_into
from adapterhub.composition import Composition, Expression, Fuse
from adapterhub.engine import AdapterSetup, Fusion
from adapterhub.engine.locations import attentions_at
from adapterhub.errors import CompositionError, DataError

if TYPE_CHECKING:
    from adapterhub.model.core import AdapterMixin

logger = logging.getLogger(__name__)


@torch.no_grad()
def shares(model: "AdapterMixin", fuse: Fuse, data: Iterable[Mapping[str, Any]]) -> dict[Expression, float]:
    """How much of the attention each child of a fusion gets on average, the first one the most; they add up to 1.

    The mean is over all tokens that are no padding, then over sites; where a child does not act it gets none.

    Raises:
        DataError: if there is no data.
    """
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    was_training = model.training
    model.eval()
    try:
        for batch in data:
            for site, attention in _attentions(model, fuse, batch).items():
                tokens = _of_tokens(batch, site, attention).double().cpu()
                sums[site] = sums.get(site, torch.zeros(())) + tokens.sum(0)
                counts[site] = counts.get(site, 0) + len(tokens)
    finally:
        model.train(was_training)
    if not any(counts.values()):
        raise DataError("the adapters of a fusion are ranked by the attention that they get: give it data to look at")
    means = torch.zeros(len(fuse), dtype=torch.float64)
    for site, total in sums.items():
        means[_acting(model, fuse, site)] += total / max(1, counts[site])
    means /= len(sums)
    order = means.argsort(descending=True, stable=True).tolist()
    return {fuse[child]: float(means[child]) for child in order}


def best(ranking: Mapping[Expression, float], count: int) -> list[Expression]:
    """The first ``count`` of a ranking.

    Raises:
        CompositionError: if there are not that many.
    """
    if isinstance(count, bool) or not 1 <= count <= len(ranking):
        raise CompositionError(f"of {len(ranking)} adapters, 1 to {len(ranking)} can be kept, not {count}")
    return list(ranking)[:count]


def smaller(fuse: Fuse, kept: Sequence[Expression], name: str | None) -> Fuse:
    """The fusion of those children that are ``kept``, in their order.

    Raises:
        CompositionError: if one of them is no child.
    """
    strange = [child for child in kept if child not in fuse.children]
    if strange or not kept:
        raise CompositionError(f"{fuse!r} is not over {strange or 'nothing'}: keep some of {list(fuse)}")
    return Fuse(*(child for child in fuse if child in kept), name=name)


def pruned(model: "AdapterMixin", fuse: Fuse, less: Fuse) -> Fusion:
    """A fusion over the children of ``less`` that has the weights of the one over those of ``fuse``.

    Raises:
        AdapterNotFoundError: if there is no such fusion.
        TensorMismatchError: if what is left would be fused at another width.
    """
    trained = model.engine.get_fusion(fuse.fusion)
    with torch.random.fork_rng(devices=[]):
        made = model.engine.build_fusion(less.fusion, trained.config, less.names())
    weights = trained.state_dict()
    load_into(made, {key: weights[key] for key in made.state_dict()}, f"fusion {less.fusion!r}")
    if model.adapters[less.last()].config != model.adapters[fuse.last()].config:
        logger.warning(
            "a fusion asks with what its last adapter reads: that was %r, and is %r of another configuration now",
            fuse.last(),
            less.last(),
        )
    return made


def _attentions(model: "AdapterMixin", fuse: Fuse, batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """What a fusion attends to in a batch, by site: ``[batch, seq, adapters]``."""
    inputs = {key: value.to(model.device) if isinstance(value, Tensor) else value for key, value in batch.items()}
    with AdapterSetup(fuse):
        output = model(**inputs, output_adapter_fusion_attentions=True)
    found = output[-1] if isinstance(output, tuple) else output["adapter_fusion_attentions"]
    sites = model.engine.get_fusion(fuse.fusion).site_names
    return attentions_at(model.engine.places, sites, found[fuse.fusion])


def _of_tokens(batch: Mapping[str, Any], site: str, attention: Tensor) -> Tensor:
    """The attention of tokens that are no padding, ``[tokens, adapters]``."""
    mask = batch.get("decoder_attention_mask" if site.startswith("decoder.") else "attention_mask")
    if isinstance(mask, Tensor) and mask.shape == attention.shape[:2]:
        attention = attention[mask.bool().to(attention.device)]
    return attention.flatten(0, -2)


def _acting(model: "AdapterMixin", fuse: Fuse, site: str) -> list[int]:
    """The numbers of the children that act at a site, which attention is over."""
    return [
        index
        for index, child in enumerate(fuse)
        if any(
            model.adapters[name].parts(site) for name in (child.names() if isinstance(child, Composition) else [child])
        )
    ]
