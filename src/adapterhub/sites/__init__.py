"""Where adapters can act in a transformer: sites, discovered from the model itself.

The module can be called: ``adapterhub.sites(model)`` is what discovery finds in a model.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING

from adapterhub.sites.discovery import discover
from adapterhub.sites.embeddings import decoder_after, embeds_alike, is_decoder
from adapterhub.sites.interface import AdapterModelInterface
from adapterhub.sites.layout import Attention, Embeddings, Layer, Norm, Projection, Sites, Sublayer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = [
    "AdapterModelInterface",
    "Attention",
    "Embeddings",
    "Layer",
    "Norm",
    "Projection",
    "Sites",
    "Sublayer",
    "decoder_after",
    "discover",
    "embeds_alike",
    "is_decoder",
]


class _Callable(ModuleType):
    """``adapterhub.sites`` names both this package and the function that a person calls."""

    def __call__(self, model: "PreTrainedModel") -> Sites:
        """The sites of ``model``: those it works with if it has adapters, else what discovery finds in it.

        Raises:
            SiteError: if there are none.
        """
        engine = getattr(model, "engine", None)
        return discover(model) if engine is None else engine.sites


sys.modules[__name__].__class__ = _Callable
