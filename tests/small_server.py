"""A small HTTP server of this machine: answers every request alike, and knows what it was asked."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[ThreadingHTTPServer]:
    """A server of this machine on a port of its own, until the block ends."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True  # a request that hangs must not hang the tests
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def address(server: ThreadingHTTPServer) -> str:
    """Where it is asked."""
    return f"http://127.0.0.1:{server.server_port}"


@contextmanager
def small_server(
    status: int = 200,
    ahead: timedelta = timedelta(0),
    body: bytes = b"OK",
    date: bool = True,
    asked: list[str] | None = None,
) -> Iterator[str]:
    """Its address. `ahead` is how much later it believes it is; without `date` it does not say."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            if asked is not None:
                asked.append(f"{self.command} {self.path}")
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response_only(status)
            if date:
                now = datetime.now(UTC) + ahead
                self.send_header("Date", format_datetime(now, usegmt=True))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_POST = _answer

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as server:
        yield address(server)
