"""A server of its own that speaks like S3."""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

_KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


@contextmanager
def server() -> Iterator[str]:
    """The address of a server without buckets."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        with log.open("w") as file:
            command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
            process = subprocess.Popen(command, stdout=file, stderr=file, env=os.environ | _KEYS)
        try:
            until = time.monotonic() + 60
            while (found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text())) is None:
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.05)
            yield found[0]
        finally:
            process.kill()
            process.wait()


def new_bucket(address: str, name: str) -> dict[str, str]:
    """The options of a store in a new bucket."""
    urlopen(Request(f"{address}/{name}", method="PUT")).close()
    return {"endpoint": address, "region": "us-east-1", "access_key_id": "test", "secret_access_key": "test"}
