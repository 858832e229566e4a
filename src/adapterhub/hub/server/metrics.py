"""What is measured of a hub, for Prometheus.

What requests do is counted in the worker (``counters``); where there are several, in files that whichever of them is
asked puts together (``PROMETHEUS_MULTIPROC_DIR``, which the server sets). What there is comes from the database when it
is asked.
"""

import os
from collections.abc import Iterator
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from sqlalchemy import case, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from adapterhub.hub.server.database import Account, Blob, Job, Repository
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.readiness import Readiness


def text(hub: Hub, readiness: Readiness) -> bytes:
    """All that is measured, of all workers of this machine, in the format of Prometheus."""
    own = CollectorRegistry()
    own.register(_HubCollector(hub, readiness))
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        MultiProcessCollector(own)
        return generate_latest(own)
    return generate_latest(REGISTRY) + generate_latest(own)


class _HubCollector:
    """What there is on a hub."""

    def __init__(self, hub: Hub, readiness: Readiness) -> None:
        self._hub, self._readiness = hub, readiness

    def collect(self) -> Iterator[Metric]:
        state = self._readiness.state()
        for name, problem in (("database", state.database), ("store", state.store)):
            yield GaugeMetricFamily(f"adapterhub_{name}_up", f"Whether the {name} can be written to.", int(not problem))
        try:
            with self._hub.database.read() as session:
                yield from _counts(session)
                yield _jobs(session)
        except SQLAlchemyError:
            return  # the database is down, as was said above


def _counts(session: Session) -> Iterator[Metric]:
    for name, words, query in _COUNTS:
        yield GaugeMetricFamily(f"adapterhub_{name}", words, float(session.scalar(query) or 0))


def _jobs(session: Session) -> Metric:
    states = case((Job.finished.is_not(None), "failed"), (Job.started.is_not(None), "running"), else_="waiting")
    gauge = GaugeMetricFamily(
        "adapterhub_jobs", "Jobs that wait or run, or were given up within a week.", labels=["kind", "state"]
    )
    left = (Job.finished.is_(None)) | (Job.error != "")
    for kind, state, number in session.execute(
        select(Job.kind, states, func.count()).where(left).group_by(Job.kind, states)
    ):
        gauge.add_metric([kind, state], number)
    return gauge


_COUNTS: tuple[tuple[str, str, Any], ...] = (
    ("accounts", "Users and organisations.", select(func.count()).select_from(Account)),
    ("repositories", "Repositories.", select(func.count()).select_from(Repository)),
    ("downloads", "Downloads of adapters, ever.", select(func.sum(Repository.downloads))),
    ("blobs", "Files in the store.", select(func.count()).select_from(Blob)),
    ("stored_bytes", "Bytes in the store.", select(func.sum(Blob.size))),
)
