"""Checkpoints of ``adapters`` and of the libraries before it: those of every version are read, those of 1.3 written."""

from adapterhub.checkpoints.adapters.folder import (
    VERSION,
    AdaptersCheckpoint,
    adapter_files,
    fusion_files,
    head_files,
    own_head_files,
    read_adapters,
)
from adapterhub.checkpoints.adapters.layout import ADAPTER, FUSION, HEAD, Layout

__all__ = [
    "ADAPTER",
    "FUSION",
    "HEAD",
    "VERSION",
    "AdaptersCheckpoint",
    "Layout",
    "adapter_files",
    "fusion_files",
    "head_files",
    "own_head_files",
    "read_adapters",
]
