"""Checkpoints, one file a format, and the fingerprint of the base model that they were made for."""

from adapterhub.checkpoints import adapters
from adapterhub.checkpoints.compact import Storage, storage
from adapterhub.checkpoints.entries import Content
from adapterhub.checkpoints.fingerprinting import fingerprint_of
from adapterhub.checkpoints.native import (
    ADAPTER_MANIFEST,
    EMBEDDINGS_MANIFEST,
    FUSION_MANIFEST,
    HEAD_MANIFEST,
    Manifest,
    Part,
    read,
    write,
)
from adapterhub.checkpoints.sharded import whole_copies, whole_state
from adapterhub.checkpoints.tensors import load_into, match_tensors

__all__ = [
    "ADAPTER_MANIFEST",
    "EMBEDDINGS_MANIFEST",
    "FUSION_MANIFEST",
    "HEAD_MANIFEST",
    "Content",
    "Manifest",
    "Part",
    "Storage",
    "adapters",
    "fingerprint_of",
    "load_into",
    "match_tensors",
    "read",
    "storage",
    "whole_copies",
    "whole_state",
    "write",
]
