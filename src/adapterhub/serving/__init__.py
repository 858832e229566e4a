"""Serving: one base model, many adapters, mixed in every batch; and clients for it."""

from adapterhub.serving.client import AsyncClient, Client

__all__ = ["AsyncClient", "Client"]
