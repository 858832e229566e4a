"""What a pool has done, and how much it holds."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class PoolStatistics:
    """Counts of a pool since it was made, and what it holds now.

    Attributes:
        registered: adapters that it knows.
        loaded: those of them on the device.
        in_memory: those of them that are kept in host memory.
        hits: how often an adapter was asked for that was on the device already.
        misses: how often it was not.
        from_memory: how many of the misses were answered out of host memory; the others read a file.
        evictions: how often an adapter made room for another on the device.
        device_bytes: what the room for adapters on the device takes, free room included.
        memory_bytes: what is kept in host memory.
        disk_bytes: what the weights of all registered adapters take on disk.
    """

    registered: int
    loaded: int
    in_memory: int
    hits: int
    misses: int
    from_memory: int
    evictions: int
    device_bytes: int
    memory_bytes: int
    disk_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return asdict(self)
