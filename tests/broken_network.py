"""A proxy before a tracking server, which does to requests what networks and servers do to them."""

import http.client
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from typing import Any

from small_server import address, serving

PASS = "pass"
REFUSED = "error 500"  # not carried out
DROPPED = "dropped"  # the connection is reset before the request is carried out
UNANSWERED = "unanswered"  # carried out, then the connection is reset
CUT = "cut"  # carried out, and half of the answer arrives

Fault = Callable[[str, str], str]  # method and path of a request -> what happens to it
_HOP = {"connection", "keep-alive", "transfer-encoding", "host", "content-length"}


class Network:
    """What the proxy does now, and what it has done: (method, fault) -> how often."""

    def __init__(self, uri: str, server_port: int) -> None:
        self.uri = uri
        self.server_port = server_port
        self.fault: Fault = always(PASS)
        self.done: Counter[tuple[str, str]] = Counter()
        self.lock = threading.Lock()


def always(what: str) -> Fault:
    """The same for every request."""
    return lambda method, path: what


def now_and_then(share: float, seed: int, *faults: str) -> Fault:
    """One of some faults for a share of the requests, the others pass."""
    chance = random.Random(seed)
    lock = threading.Lock()

    def choose(method: str, path: str) -> str:
        with lock:
            return chance.choice(faults) if chance.random() < share else PASS

    return choose


@contextmanager
def broken_network(server_port: int) -> Iterator[Network]:
    """A proxy to 127.0.0.1:`server_port` on a port of its own; all passes until `fault` is set."""
    with serving(_Handler) as proxy:
        network = Network(address(proxy), server_port)
        proxy.network = network  # type: ignore[attr-defined]
        yield network


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        network: Network = self.server.network  # type: ignore[attr-defined]
        body = self._body()
        fault = network.fault(self.command, self.path)
        with network.lock:
            network.done[self.command, fault] += 1
        if fault == DROPPED:
            self._reset()
        elif fault == REFUSED:
            self._answer(500, {"Content-Type": "text/plain"}, b"broken")
        else:
            self._forward(network, body, fault)

    def _forward(self, network: Network, body: bytes, fault: str) -> None:
        headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP}
        server = http.client.HTTPConnection("127.0.0.1", network.server_port, timeout=60)
        try:
            server.request(self.command, self.path, body, headers)
            response = server.getresponse()
            content = response.read()
        except OSError:  # the server itself is away
            self._reset()
            return
        finally:
            server.close()
        if fault == UNANSWERED:
            self._reset()
            return
        sent = {k: v for k, v in response.getheaders() if k.lower() not in _HOP}
        self._answer(response.status, sent, content, whole=fault != CUT)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(
        self, status: int, headers: dict[str, str], content: bytes, whole: bool = True
    ) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(content if whole else content[: len(content) // 2])
        if not whole:
            self._reset()

    def _reset(self) -> None:
        """End the connection as a network does that has lost it: without a farewell."""
        self.close_connection = True
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with suppress(OSError):
            self.connection.close()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _serve

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the tests look at `done`."""

    def handle(self) -> None:
        with suppress(OSError, ValueError):  # ValueError: the connection was reset by us
            super().handle()
