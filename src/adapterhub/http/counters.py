"""What is counted of requests, for ``/metrics``."""

from prometheus_client import Counter, Histogram

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)

REQUESTS = Counter("adapterhub_requests", "Requests that were answered.", ["method", "route", "status"])
SECONDS = Histogram("adapterhub_request_seconds", "Time until the last byte.", ["route"], buckets=_BUCKETS)
RECEIVED = Counter("adapterhub_received_bytes", "Bytes of the bodies of requests.", ["route"])
SENT = Counter("adapterhub_sent_bytes", "Bytes of the bodies of answers.", ["route"])
LIMITED = Counter("adapterhub_limited_requests", "Requests that were too many.", ["kind"])
