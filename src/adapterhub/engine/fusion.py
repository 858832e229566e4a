"""A fusion in a model: one module that holds the attention over some adapters, addressed by site."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from adapterhub.engine.adapter import Adapter, SiteModules
from adapterhub.errors import CompositionError
from adapterhub.methods import Modules, Place
from adapterhub.methods.fusion import AdapterFusionConfig, FusionLayer

_FUSED = ("sublayer", "weight", "experts", "layer")


class Fusion(SiteModules):
    """The layers of one fusion; ``fusion.at("layers.3.feed_forward")`` is the one at that site."""

    def __init__(
        self, name: str, config: AdapterFusionConfig, adapters: Sequence[Adapter], places: Iterable[Place]
    ) -> None:
        """Build a layer for every place where one of the adapters changes something.

        Raises:
            CompositionError: if there is no such place.
        """
        parts = {}
        for place in places:
            acting = [adapter for adapter in adapters if adapter.at(place.name) is not None]
            if acting and place.kind in _FUSED:
                parts[place.name] = FusionLayer(config, _width(place, acting))
        if not parts:
            names = ", ".join(adapter.name for adapter in adapters)
            raise CompositionError(f"adapters {names} give nothing that could be fused")
        super().__init__(name, Modules(parts))
        self.config = config
        self.adapter_names = tuple(adapter.name for adapter in adapters)

    def regularisation(self) -> Tensor | None:
        """The sum of what its layers add to the loss, or None."""
        terms = [term for part in self._layers() if (term := part.regularisation()) is not None]
        return torch.stack([term.to(terms[0].device) for term in terms]).sum() if terms else None

    def _layers(self) -> list[FusionLayer]:
        found = [self.at(site) for site in self.site_names]
        return [layer for layer in found if isinstance(layer, FusionLayer)]


def _width(place: Place, acting: Sequence[Adapter]) -> int:
    """The width of what is fused at a place: of what its weight gives, or reads if all act on that."""
    if place.weight is None:
        return place.width
    parts = [part for adapter in acting for part in adapter.parts(place.name)]
    on_input = all(getattr(part, "on_input", False) for part in parts)
    return place.weight.shape[1 if on_input else 0]
