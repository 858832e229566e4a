"""What a server counts as it goes, for ``/metrics``."""

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)

WAITING = Gauge("adapterhub_serving_waiting_rows", "Rows that wait for a batch.")
WAITED = Histogram("adapterhub_serving_wait_seconds", "From when a row came until its batch.", buckets=_SECONDS)
BATCH_ROWS = Histogram("adapterhub_serving_batch_rows", "Rows of a batch.", buckets=_ROWS)
BATCH_SECONDS = Histogram("adapterhub_serving_batch_seconds", "Forward passes.", buckets=_SECONDS)
TOKENS = Counter("adapterhub_serving_tokens", "Tokens of texts that were run, without padding.")
PADDING = Counter("adapterhub_serving_padding_tokens", "Tokens of padding that were run.")
REFUSED = Counter("adapterhub_serving_refused", "Requests that were refused.", ["why"])
LOADED = Gauge("adapterhub_serving_loaded_adapters", "Adapters in the model.")
LOADED_BYTES = Gauge("adapterhub_serving_loaded_bytes", "Bytes of the adapters in the model.")
LOADS = Counter("adapterhub_serving_loads", "Adapters that were brought into the model, or could not be.", ["how"])
LOAD_SECONDS = Histogram("adapterhub_serving_load_seconds", "From when it was missed.", buckets=_SECONDS)
EVICTIONS = Counter("adapterhub_serving_evictions", "Adapters that made room for others.")


def tell_batch(rows: int, tokens: int, padded: int, seconds: float) -> None:
    """Count a batch of so many rows and tokens, padding with and without."""
    BATCH_ROWS.observe(rows)
    BATCH_SECONDS.observe(seconds)
    TOKENS.inc(tokens)
    PADDING.inc(padded - tokens)
