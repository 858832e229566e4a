"""What a person calls on a model, one file for each kind of thing."""

from adapterhub.model.core import AdapterMixin, AdapterType

__all__ = ["AdapterMixin", "AdapterType"]
