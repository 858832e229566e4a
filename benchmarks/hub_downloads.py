"""How fast a hub of one worker gives out adapters of 3 MB, by itself and with nginx, and nginx alone with these files.

python benchmarks/hub_downloads.py [rounds] [seconds]      needs nginx and wrk (Debian: nginx-light, wrk)
"""

import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from safetensors.numpy import save as safetensors

from adapterhub.hub.server import accounts, blobs, commits, repositories
from adapterhub.hub.server.commits import Message, Put
from adapterhub.hub.server.hub import Hub
from adapterhub.hub.server.settings import Settings
from workers import ROOT, machine, save

sys.path.insert(0, str(ROOT / "tests"))

from hub.server.running import Running, start

_PORT = 8499
_ADAPTERS, _RANK, _WIDTH, _LAYERS = 40, 20, 768, 12
_CONNECTIONS = 8
_PATH = "/bench/lora-{}/resolve/main/adapter_model.safetensors"


def fill(folder: Path) -> list[tuple[str, str]]:
    """Publish LoRA adapters of 2.9 MB of random numbers; returns the SHA-256 of their weights, and the commits."""
    hub = Hub.open(Settings(directory=folder))
    found = list[tuple[str, str]]()
    with hub.database.write() as session:
        owner = accounts.actor(accounts.add_user(session, "bench", None))
    config = {
        "peft_type": "LORA",
        "r": _RANK,
        "lora_alpha": _RANK,
        "target_modules": ["query", "value"],
        "base_model_name_or_path": "roberta-base",
    }
    for number in range(_ADAPTERS):
        name = f"lora-{number}"
        with hub.database.write() as session:
            repositories.create(session, owner, "bench", name)
        files = {"adapter_config.json": json.dumps(config).encode(), "adapter_model.safetensors": _weights(number)}
        sent = {path: blobs.receive(hub, owner, data, path) for path, data in files.items()}
        changes = [Put(path, sha256) for path, sha256 in sent.items()]
        made = commits.publish(hub, owner, "bench", name, "main", changes, Message("Upload"))
        found.append((sent["adapter_model.safetensors"], made.oid))
    hub.close()
    return found


def _weights(seed: int) -> bytes:
    draw = np.random.default_rng(seed)
    stem = "base_model.model.encoder.layer.{}.attention.self.{}.lora_{}.weight"
    shapes = {"A": (_RANK, _WIDTH), "B": (_WIDTH, _RANK)}
    return safetensors(
        {
            stem.format(layer, module, part): draw.normal(size=shape).astype(np.float32)
            for layer in range(_LAYERS)
            for module in ("query", "value")
            for part, shape in shapes.items()
        }
    )


@contextmanager
def serving(folder: Path, **environment: str) -> Iterator[Running]:
    """A server of the hub in a folder, that counts requests and refuses none."""
    made = start(folder, ADAPTERHUB_REQUESTS_PER_MINUTE="100000000", **environment)
    try:
        yield made
    finally:
        made.stop()


@contextmanager
def nginx(folder: Path, hub: Running, plain: Running, port: int) -> Iterator[None]:
    """nginx with one worker: ``/static`` are the stored files themselves, all else is the hub's, sent by nginx.

    What is asked for by the id of a commit never changes: it keeps that, from a hub that sends files by itself.
    """
    config = f"""
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  default_type application/octet-stream;
  proxy_cache_path {folder}/kept keys_zone=kept:8m max_size=1g;
  upstream hub {{ server {hub.url.removeprefix("http://")}; keepalive 32; }}
  server {{
    listen 127.0.0.1:{port};
    location /static/ {{
      alias {hub.folder}/blobs/;
      etag off;
      if ($uri ~ "([0-9a-f]{{64}})$") {{ add_header ETag '"$1"'; }}
    }}
    location /stored/ {{ internal; alias {hub.folder}/blobs/; }}
    location ~ "/resolve/[0-9a-f]{{40}}/" {{
      proxy_pass {plain.url};
      proxy_cache kept;
      proxy_set_header Host $host;
    }}
    location / {{
      proxy_pass http://hub;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
    }}
  }}
}}
"""
    path = folder / "nginx.conf"
    path.write_text(config)
    process = subprocess.Popen(["nginx", "-c", str(path), "-e", f"{folder}/error.log", "-g", "daemon off; user root;"])
    time.sleep(1)
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


def wrk(folder: Path, base: str, paths: list[str], seconds: int) -> float:
    """Bytes a second that a server gives out, over all paths in turn."""
    script = folder / "paths.lua"
    listed = ",".join(f'"{path}"' for path in paths)
    script.write_text(
        f"paths = {{{listed}}}\nn = 0\nrequest = function() n = n + 1; "
        "return wrk.format('GET', paths[n % #paths + 1]) end\n"
    )
    done = subprocess.run(
        ["wrk", "-t1", f"-c{_CONNECTIONS}", f"-d{seconds}s", "-s", str(script), base],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    if "Non-2xx" in done or "Socket errors" in done:
        raise RuntimeError(done)
    value, unit = re.findall(r"Transfer/sec:\s+([\d.]+)(\w+)", done)[0]
    return float(value) * {"KB": 1 / 1024, "MB": 1, "GB": 1024}[unit] * 1024**2


def main(rounds: int = 5, seconds: int = 5) -> None:
    """Take turns, and keep the median of the ratios to nginx; results go to ``results/hub_downloads.json``."""
    if not (shutil.which("nginx") and shutil.which("wrk")):
        sys.exit("this needs nginx and wrk: apt-get install nginx-light wrk")
    before = machine()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        stored = fill(folder / "hub")
        with (
            serving(folder / "hub") as alone,
            serving(folder / "hub", ADAPTERHUB_ACCEL="/stored") as handed,
            nginx(folder, handed, alone, _PORT),
        ):
            through = f"http://127.0.0.1:{_PORT}"
            pages = [_PATH.format(number) for number in range(_ADAPTERS)]
            pinned = [page.replace("/main/", f"/{oid}/") for page, (_, oid) in zip(pages, stored, strict=True)]
            files = [f"/static/{one[:2]}/{one[2:4]}/{one}" for one, _ in stored]
            ways = {
                "hub": (alone.url, pages),
                "hub, sent by nginx": (through, pages),
                "hub, kept by nginx": (through, pinned),
                "nginx": (through, files),
            }
            found: dict[str, list[float]] = {way: [] for way in ways}
            for base, paths in ways.values():  # once for the caches
                wrk(folder, base, paths, 1)
            for _ in range(rounds):
                for way, (base, paths) in ways.items():
                    found[way].append(wrk(folder, base, paths, seconds))
                    print(f"{way}: {found[way][-1] / 1e6:,.0f} MB/s", flush=True)
    ratios = {
        way: [one / other for one, other in zip(values, found["nginx"], strict=True)] for way, values in found.items()
    }
    result = {
        "what": f"{_ADAPTERS} adapters of 2.9 MB, {_CONNECTIONS} connections, {rounds} rounds of {seconds} s in turns",
        "megabytes_per_second": {way: [round(one / 1e6) for one in values] for way, values in found.items()},
        "of_nginx": {way: round(statistics.median(values), 3) for way, values in ratios.items()},
        "machine": before,
        "nginx": subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr.strip(),
    }
    save("hub_downloads", result)
    print(json.dumps(result["of_nginx"], indent=1))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
