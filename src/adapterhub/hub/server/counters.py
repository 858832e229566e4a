"""What a worker counts as it goes beside its requests, for ``/metrics``."""

from prometheus_client import Counter
from sqlalchemy import event
from sqlalchemy.orm import Session

ACTIONS = Counter("adapterhub_actions", "What was done, as the audit log calls it: commit and others.", ["action"])


def count_action(session: Session, action: str) -> None:
    """Count what is done in a transaction, if it is kept."""
    event.listen(session, "after_commit", lambda session: ACTIONS.labels(action).inc(), once=True)
