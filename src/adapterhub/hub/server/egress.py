"""Requests that the hub makes to addresses that users name: to public machines alone, and never for long."""

import http.client
import ipaddress
import socket
import ssl
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import SplitResult, urlsplit

from adapterhub.errors import HubAccessError, HubError, HubUnreachableError

_PORTS = {"http": 80, "https": 443}
_OTHER_PORTS = (8080, 8443)
_SECONDS = 20.0
_ANSWER_BYTES = 1 << 16
# Networks that stand for others: an address in them may lead to a private machine.
_TRANSLATED = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96")))

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def check_url(url: str, private_hosts: Collection[str] = ()) -> SplitResult:
    """Pass an address that may be sent to, as far as its text tells.

    Raises:
        HubAccessError: for another scheme, an odd port, a user name in it, or a private machine.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise HubAccessError(f"{url!r} is no address: {error}") from error
    if parts.scheme not in _PORTS or not parts.hostname:
        raise HubAccessError(f"{url!r} is no address that begins with https:// or http://")
    if parts.username is not None or parts.password is not None or any(ord(letter) <= 32 for letter in url):
        raise HubAccessError("an address may hold no user name, password or white space")
    if f"{parts.hostname}:{_port(parts)}" in private_hosts:
        return parts
    if port not in (None, *_PORTS.values(), *_OTHER_PORTS):
        raise HubAccessError(f"messages are sent to the ports 80, 443, 8080 and 8443, not to {port}")
    try:
        address = ipaddress.ip_address(parts.hostname)
    except ValueError:
        return parts
    _check_public(address, parts.hostname)
    return parts


def post(url: str, body: bytes, headers: Mapping[str, str], private_hosts: Collection[str] = ()) -> int:
    """Send a message; returns the status of the answer, whose body is not looked at and redirects of which not taken.

    The address is looked up once, and the machine found is both the one that is checked and the one that is sent to.

    Raises:
        HubAccessError: for an address that may not be sent to.
        HubUnreachableError: if there is no answer within 20 seconds.
    """
    with _unreachable(parts := check_url(url, private_hosts)):
        return _post(parts, _lookup(parts, private_hosts), body, headers)


@contextmanager
def asking(
    method: str, url: str, headers: Mapping[str, str], private_hosts: Collection[str] = ()
) -> Iterator[http.client.HTTPResponse]:
    """The answer to a request, whose body is read as it comes in and redirects of which are not taken.

    Raises:
        HubAccessError: for an address that may not be sent to.
        HubUnreachableError: if there is no answer, or one that stops for 20 seconds; also while it is read.
    """
    with _unreachable(parts := check_url(url, private_hosts)):
        connection = _connection(parts, _lookup(parts, private_hosts))
        try:
            _shake_hands(connection)
            connection.request(method, _target(parts), headers={"Host": parts.netloc, **headers})
            yield connection.getresponse()
        finally:
            connection.close()


@contextmanager
def _unreachable(parts: SplitResult) -> Iterator[None]:
    try:
        yield
    except HubError:
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise HubUnreachableError(f"{parts.hostname}: {type(error).__name__}: {error}") from error


def _post(parts: SplitResult, address: Address, body: bytes, headers: Mapping[str, str]) -> int:
    connection = _connection(parts, address)
    # The time of all, where the socket's own is that of each step.
    end = threading.Timer(_SECONDS, _cut, [connection.sock])
    end.daemon = True
    end.start()
    try:
        _shake_hands(connection)
        connection.request("POST", _target(parts), body, {"Host": parts.netloc, **headers})
        answer = connection.getresponse()
        answer.read(_ANSWER_BYTES)
        return answer.status
    finally:
        end.cancel()
        connection.close()


def _connection(parts: SplitResult, address: Address) -> http.client.HTTPConnection:
    """A connection to a machine that was looked up and checked, on which nothing was said yet."""
    connection = http.client.HTTPConnection(str(parts.hostname), _port(parts))
    connection.sock = socket.create_connection((str(address), _port(parts)), timeout=_SECONDS)
    if parts.scheme == "https":
        context = ssl.create_default_context()
        connection.sock = context.wrap_socket(
            connection.sock, server_hostname=parts.hostname, do_handshake_on_connect=False
        )
    return connection


def _shake_hands(connection: http.client.HTTPConnection) -> None:
    """Find out, where there is TLS, that the machine is the one of the name."""
    if isinstance(connection.sock, ssl.SSLSocket):
        connection.sock.do_handshake()


def _target(parts: SplitResult) -> str:
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _cut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it has ended by itself


def _lookup(parts: SplitResult, private_hosts: Collection[str]) -> Address:
    """The machine of a name; every one that it may stand for has to be public."""
    host = str(parts.hostname)
    try:
        found = socket.getaddrinfo(host, _port(parts), type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise HubUnreachableError(f"there is no machine {host}") from error
    addresses = [ipaddress.ip_address(str(one[4][0]).partition("%")[0]) for one in found]
    if f"{host}:{_port(parts)}" not in private_hosts:
        for address in addresses:
            _check_public(address, host)
    return addresses[0]


def _check_public(address: Address, host: str) -> None:
    plain = getattr(address, "ipv4_mapped", None) or address
    hidden = any(plain in network for network in _TRANSLATED if network.version == plain.version)
    if not plain.is_global or plain.is_multicast or plain.is_reserved or hidden:
        raise HubAccessError(f"{host} is no public machine: messages are sent to public ones alone")


def _port(parts: SplitResult) -> int:
    return parts.port or _PORTS[parts.scheme]
