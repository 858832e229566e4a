"""The bytes in the store are read, to see whether they are still what they were."""

import hashlib
from collections.abc import Iterator
from typing import Any

from sqlalchemy import select

from adapterhub.errors import HubError
from adapterhub.hub.server import audit
from adapterhub.hub.server.actor import SERVER
from adapterhub.hub.server.database import Blob
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.jobs.references import referenced

_SHOWN = 20


class DamageError(HubError):
    """Bytes in the store that are gone, or not what they were."""


def scrub(hub: Hub, arguments: dict[str, Any]) -> None:
    """Read all that commits need; damage is written into the audit log.

    Raises:
        DamageError: naming what is damaged.
    """
    found = dict(damage(hub))
    if not found:
        return
    with hub.database.write() as session:
        for sha256, what in found.items():
            audit.record(session, SERVER, "store.damaged", sha256, what=what)
    words = ", ".join(f"{sha256} ({what})" for sha256, what in list(found.items())[:_SHOWN])
    more = f" and {len(found) - _SHOWN:,} more" if len(found) > _SHOWN else ""
    raise DamageError(f"{len(found):,} files in the store are damaged: {words}{more}. Restore them from a backup.")


def damage(hub: Hub) -> Iterator[tuple[str, str]]:
    """The SHA-256 of bytes that commits need and that are not whole, and what is wrong with them."""
    with hub.database.read() as session:
        needed = sorted(referenced(session))
        sizes = dict(session.execute(select(Blob.sha256, Blob.size)).tuples().all())
    for sha256 in needed:
        try:
            made = hashlib.sha256()
            for piece in hub.store.read(sha256, 0, sizes.get(sha256, 0)):
                made.update(piece)
        except FileNotFoundError:
            yield sha256, "missing"
            continue
        if made.hexdigest() != sha256:
            yield sha256, "altered"
