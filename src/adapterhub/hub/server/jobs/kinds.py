"""Every kind of job."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from adapterhub.hub.server import mirrors
from adapterhub.hub.server.events import DELIVER
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.jobs import collecting, scrubbing, tidying, webhooks
from adapterhub.hub.server.settings import Settings


@dataclass(frozen=True)
class Kind:
    """Something that is done beside requests.

    Attributes:
        run: does it, with the arguments of the job.
        every: how long after it ended it is done again; None for when it is asked for alone.
        tries: how often it is tried.
        slow: whether it may take minutes.
    """

    run: Callable[[Hub, dict[str, Any]], object]
    every: timedelta | None = None
    tries: int = 5
    slow: bool = False


def kinds(settings: Settings) -> Mapping[str, Kind]:
    """Every kind of job, by name."""
    scrub_days = timedelta(days=settings.scrub_days) if settings.scrub_days else None
    mirror_hours = timedelta(hours=settings.mirror_hours) if settings.mirror_hours else None
    return {
        DELIVER: Kind(webhooks.deliver, tries=8),
        "tidy": Kind(tidying.tidy, every=timedelta(hours=1)),
        "mirrors": Kind(mirrors.queue_all, every=mirror_hours),
        mirrors.REFRESH: Kind(_mirror, tries=3, slow=True),
        "collect": Kind(lambda hub, arguments: collecting.collect(hub), every=timedelta(hours=1), slow=True),
        "scrub": Kind(scrubbing.scrub, every=scrub_days, tries=2, slow=True),
    }


def _mirror(hub: Hub, arguments: dict[str, Any]) -> None:
    from adapterhub.hub.server.jobs import mirror  # the client of the Hugging Face Hub takes a while to import

    mirror.refresh_one(hub, arguments)
