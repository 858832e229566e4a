"""A server of predictions: it has the addresses of ``adapterhub serve``, and answers what it is told to."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "of-the-server"
BASE = {"name": "FacebookAI/roberta-base", "model_type": "roberta", "hidden_size": 768, "layers": 12}
LIKELY = {"scores": [{"label": "positive", "score": 0.93}, {"label": "negative", "score": 0.07}]}


@dataclass
class Answering:
    """What came, and what it is answered with.

    Attributes:
        output: the answer to a text, as the server tells it.
        status, headers: of the answer; another status than 200 tells ``detail``.
        body: what is sent in the place of all that, if not None.
        base: the model that it runs.
        got: the headers, in small letters, and the content of every question.
        waits: until this is set, there is no answer.
    """

    url: str = ""
    output: dict[str, Any] = field(default_factory=lambda: dict(LIKELY))
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    detail: str = ""
    body: bytes | None = None
    base: dict[str, Any] = field(default_factory=lambda: dict(BASE))
    got: list[tuple[dict[str, str], dict[str, Any]]] = field(default_factory=list)
    waits: threading.Event = field(default_factory=threading.Event)

    def answer(self) -> bytes:
        """The body of an answer."""
        if self.body is not None:
            return self.body
        if self.status != 200:
            return json.dumps({"title": "No", "status": self.status, "detail": self.detail}).encode()
        results = [{"adapter": "x", "task": "x", "versions": {}, "outputs": [{"truncated": False} | self.output]}]
        return json.dumps({"model": "x", "results": results, "usage": {"tokens": 3}}).encode()


@contextmanager
def answering() -> Iterator[Answering]:
    """One at a free port."""
    made = Answering()
    made.waits.set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            known = self.path == "/v1/model" and self.headers["authorization"] == f"Bearer {TOKEN}"
            self._send(200 if known else 404, json.dumps({"name": "x", "fingerprint": made.base}).encode(), {})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            assert self.path == "/v1/predict"
            made.got.append(({key.lower(): value for key, value in self.headers.items()}, body))
            made.waits.wait(20)
            self._send(made.status, made.answer(), made.headers)

        def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {
                "Content-Type": "application/json",
                "Content-Length": str(len(body)),
                **headers,
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield made
    made.waits.set()
    server.shutdown()
    server.server_close()
