"""What the hub sends to, and what not."""

import socket
import threading
import time
from typing import Any

import pytest

from adapterhub.errors import HubAccessError, HubUnreachableError
from adapterhub.hub.server import egress
from hub.server.receiving import receiving


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/",
        "file:///etc/passwd",
        "gopher://example.org:70/",
        "http://",
        "not an address",
        "http://user:word@example.org/",
        "http://example.org:22/",
        "http://example.org:99999/",
        "http://127.0.0.1/",
        "http://127.1.2.3/",
        "http://0.0.0.0/",
        "http://10.0.0.1/",
        "http://172.16.0.1/",
        "http://192.168.1.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://100.64.0.1/",
        "http://224.0.0.1/",
        "http://255.255.255.255/",
        "http://[::1]/",
        "http://[::]/",
        "http://[fe80::1]/",
        "http://[fd00::1]/",
        "http://[ff02::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:169.254.169.254]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
        "http://example.org/\r\nHost: other",
    ],
)
def test_private_and_odd_addresses_are_refused(url: str) -> None:
    with pytest.raises(HubAccessError):
        egress.check_url(url)


@pytest.mark.parametrize("url", ["https://example.org/a?b=c", "http://93.184.216.34:8080/", "https://[2606:4700::1]/"])
def test_public_addresses_pass(url: str) -> None:
    egress.check_url(url)


@pytest.mark.parametrize("host", ["localhost", "127.1", "2130706433", "0x7f.1", "017700000001"])
def test_names_of_private_machines_are_refused_when_they_are_looked_up(host: str) -> None:
    with receiving() as receiver, pytest.raises((HubAccessError, HubUnreachableError)):
        egress.post(f"http://{host}:8080/", b"", {}, [f"other:{receiver.port}"])


def test_the_machine_that_was_checked_is_the_one_that_is_sent_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that leads to a public machine when it is checked and to a private one afterwards."""
    answers = iter(["93.184.216.34", "127.0.0.1", "127.0.0.1"])
    connected: list[Any] = []

    def lookup(host: str, port: int, **kwargs: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    def connect(address: Any, **kwargs: Any) -> Any:
        connected.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(egress.socket, "getaddrinfo", lookup)
    monkeypatch.setattr(egress.socket, "create_connection", connect)
    with pytest.raises(HubUnreachableError):
        egress.post("http://rebinding.example/", b"", {})
    assert connected == [("93.184.216.34", 80)]


def test_one_private_address_among_public_ones_is_enough_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    def lookup(host: str, port: int, **kwargs: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in ("93.184.216.34", "10.0.0.1")]

    monkeypatch.setattr(egress.socket, "getaddrinfo", lookup)
    with pytest.raises(HubAccessError):
        egress.post("http://two.example/", b"", {})


def test_redirects_are_not_followed() -> None:
    with receiving() as receiver, receiving() as other:
        receiver.statuses, receiver.location = [307], other.url
        status = egress.post(receiver.url, b"x", {}, [f"127.0.0.1:{receiver.port}", f"127.0.0.1:{other.port}"])
        assert status == 307 and len(receiver.got) == 1 and other.got == []


@pytest.mark.parametrize(
    ("scheme", "answer"),
    [("http", b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1000), ("https", b"\x16\x03\x03\x40\x00" + b"\x02" * 1000)],
)
def test_an_answer_that_drips_ends(monkeypatch: pytest.MonkeyPatch, scheme: str, answer: bytes) -> None:
    monkeypatch.setattr(egress, "_SECONDS", 1.0)
    listener = socket.create_server(("127.0.0.1", 0))

    def drip() -> None:
        connection, _ = listener.accept()
        try:
            for start in range(len(answer)):
                connection.sendall(answer[start : start + 1])
                time.sleep(0.1)
        except OSError:
            return

    threading.Thread(target=drip, daemon=True).start()
    port = listener.getsockname()[1]
    begun = time.monotonic()
    with pytest.raises(HubUnreachableError):
        egress.post(f"{scheme}://127.0.0.1:{port}/", b"", {}, [f"127.0.0.1:{port}"])
    assert time.monotonic() - begun < 5
