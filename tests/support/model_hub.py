"""A model hub on a local port, with one repository: what `huggingface_hub` asks the real one for, no more."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def hub_with(repository: str, folder: Path) -> Iterator[tuple[str, list[str]]]:
    """The hub's URL, and the names of the files that were fetched so far. `folder` holds the repository's files."""
    fetched: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: its threads outlive a test's capture."""

        def _answer(self, *, with_body: bool) -> None:
            content = _content(repository, folder, self.path.partition("?")[0])
            if content is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if with_body:
                self.wfile.write(content)
                if "/resolve/" in self.path:
                    fetched.append(self.path.rpartition("/")[2])

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", fetched
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _content(repository: str, folder: Path, path: str) -> bytes | None:
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    if path == f"/api/models/{repository}/tree/{COMMIT}":
        entries = [
            {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
            for name, content in files.items()
        ]
        return json.dumps(entries).encode()
    if path == f"/api/models/{repository}/revision/main":
        about = {"id": repository, "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
        return json.dumps(about).encode()
    prefix = f"/{repository}/resolve/{COMMIT}/"
    return files.get(path.removeprefix(prefix)) if path.startswith(prefix) else None
