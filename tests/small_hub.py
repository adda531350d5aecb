"""A Hugging Face hub of this machine, with folders as its model repositories: `HF_ENDPOINT`."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote, urlsplit

from small_server import address, serving

COMMIT = "c0ffee" + 34 * "0"


@contextmanager
def small_hub(repositories: Mapping[str, Path]) -> Iterator[str]:
    """Its address; `repositories` are by owner/name. It knows one commit, and needs no token."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = unquote(urlsplit(self.path).path).strip("/").split("/")
            if parts[:2] == ["api", "models"] and "/".join(parts[2:4]) in repositories:
                self._describe(repositories["/".join(parts[2:4])], "tree" in parts[4:5])
            elif parts[2:3] == ["resolve"] and "/".join(parts[:2]) in repositories:
                self._send(repositories["/".join(parts[:2])] / "/".join(parts[4:]))
            else:
                self._answer(404, {"X-Error-Code": "RepoNotFound"}, b"")

        do_HEAD = do_GET

        def _describe(self, folder: Path, tree: bool) -> None:
            files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
            names = [(str(path.relative_to(folder)), path) for path in files]
            if tree:
                body: object = [
                    {"type": "file", "path": n, "size": p.stat().st_size, "oid": _etag(p)[:40]}
                    for n, p in names
                ]
            else:
                body = {
                    "id": "a/b", "sha": COMMIT, "private": False, "tags": [],
                    "siblings": [{"rfilename": n, "size": p.stat().st_size} for n, p in names],
                }  # fmt: skip
            self._answer(200, {"Content-Type": "application/json"}, json.dumps(body).encode())

        def _send(self, path: Path) -> None:
            if not path.is_file():
                self._answer(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, b"")
                return
            data, status = path.read_bytes(), 200
            headers = {"ETag": f'"{_etag(path)}"', "X-Repo-Commit": COMMIT}
            asked = self.headers.get("Range", "")
            if asked.startswith("bytes="):  # a download that goes on where it had stopped
                start = int(asked.removeprefix("bytes=").split("-")[0])
                headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
                data, status = data[start:], 206
            self._answer(status, headers, data)

        def _answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as server:
        yield address(server)


def _etag(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
