"""Where adapters can act in a transformer: sites, discovered from the model itself."""

from adapterhub.sites.discovery import discover
from adapterhub.sites.layout import Layer, Norm, Projection, Sites, Sublayer

__all__ = ["Layer", "Norm", "Projection", "Sites", "Sublayer", "discover"]
