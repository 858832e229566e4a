"""Pools: adapters by the thousand for one model."""

from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedModel

from adapterhub.pool import AdapterPool

_Base: Any = PreTrainedModel if TYPE_CHECKING else object


class PoolingMixin(_Base):
    """The method that makes a pool of adapters for a model."""

    def adapter_pool(
        self, device_bytes: int | None = None, memory_bytes: int = 0, dtype: torch.dtype | None = None
    ) -> AdapterPool:
        """A new pool: adapters are registered by headers alone, loaded when they are used, and forgotten when not.

        Args:
            device_bytes: what the room for adapters on the device of the model may take, which should be some more than
                those take that are in use at once; None: as much as they need.
            memory_bytes: what may be kept in host memory of adapters that were read from disk, so that one that made
                room on a GPU comes back without reading its file; 0 where the model is in host memory itself.
            dtype: the data type of values on the device, by default that of trained adapters, float32.

        Raises:
            MergeError: if an adapter is merged into the model.
        """
        model: Any = self
        return AdapterPool(model, device_bytes, memory_bytes, dtype)
