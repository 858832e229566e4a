"""What a worker counts as it goes, for ``/metrics``."""

from prometheus_client import Counter, Histogram
from sqlalchemy import event
from sqlalchemy.orm import Session

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)

REQUESTS = Counter("adapterhub_requests", "Requests that were answered.", ["method", "route", "status"])
SECONDS = Histogram("adapterhub_request_seconds", "Time until the last byte.", ["route"], buckets=_BUCKETS)
RECEIVED = Counter("adapterhub_received_bytes", "Bytes of the bodies of requests.", ["route"])
SENT = Counter("adapterhub_sent_bytes", "Bytes of the bodies of answers.", ["route"])
LIMITED = Counter("adapterhub_limited_requests", "Requests that were too many.", ["kind"])
ACTIONS = Counter("adapterhub_actions", "What was done, as the audit log calls it: commit and others.", ["action"])


def count_action(session: Session, action: str) -> None:
    """Count what is done in a transaction, if it is kept."""
    event.listen(session, "after_commit", lambda session: ACTIONS.labels(action).inc(), once=True)
