"""A model hub on this machine: as much of the hub's API as a snapshot download needs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote


def commit(name: str) -> str:
    """Return the only commit of a repository."""
    return sha1(name.encode(), usedforsecurity=False).hexdigest()


@contextmanager
def hub(repositories: Mapping[str, Path]) -> Iterator[str]:
    """Serve folders as repositories `owner/name`, each with a pickle in its listing; where it is."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Hub", (_Hub,), {"repositories": repositories}))
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Hub(BaseHTTPRequestHandler):
    repositories: Mapping[str, Path]

    def do_HEAD(self) -> None:
        """Answer with a file's metadata."""
        self._answer(body=False)

    def do_GET(self) -> None:
        """Answer with a file, or a repository's listing."""
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        """Serve a repository at its only commit; anything else is 404."""
        for name, folder in self.repositories.items():
            files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
            if self.path.startswith(f"/api/models/{name}/tree/"):
                tree = [
                    {"type": "file", "path": file, "size": path.stat().st_size, "oid": file}
                    for file, path in files.items()
                ]
                return self._send(name, json.dumps(tree).encode(), body)
            if self.path.startswith(f"/api/models/{name}"):
                listing = [{"rfilename": file} for file in [*files, "pytorch_model.bin"]]
                content = {"id": name, "sha": commit(name), "siblings": listing}
                return self._send(name, json.dumps(content).encode(), body)
            file = unquote(self.path).removeprefix(f"/{name}/resolve/").partition("/")[2]
            if self.path.startswith(f"/{name}/resolve/") and file in files:
                return self._send(name, files[file].read_bytes(), body)
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        return self.end_headers()

    def _send(self, name: str, content: bytes, body: bool) -> None:
        """200 with the headers that the hub's client reads."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json" if content[:1] == b"{" else "application/octet-stream")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", commit(name))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Quiet."""
