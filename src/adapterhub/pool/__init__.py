"""Many adapters for one model: registered by headers alone, loaded when they are used, and forgotten when not."""

from adapterhub.pool.pool import AdapterPool
from adapterhub.pool.statistics import PoolStatistics

__all__ = ["AdapterPool", "PoolStatistics"]
