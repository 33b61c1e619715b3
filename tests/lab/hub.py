"""A stand-in for the Hugging Face Hub that the unmodified `hf download` is content with.

It answers what huggingface_hub asks for: model info, tree and paths, models by author and by name, whether a token has
access, and files by HEAD and (ranged) GET.
A repository is a folder and has one commit. Refusals have the Hub's own status, code and wording.
Xet is not offered, so `hf` downloads over plain HTTP, which it does only for files up to 50 GB.

By hand: `python -m tests.lab.hub tiny/qwen3-chat=tests/lab/tiny-model`.
"""

import argparse
import hashlib
import json
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qs, unquote, urlsplit

from tests.lab.hub_repo import CHUNK, File, Refused, Repo, entry, in_memory, info, listed, on_disk, synthetic, tree

API = re.compile(
    r"/api/models/(?P<repo>[^/]+(?:/[^/]+)??)"
    r"(?:/(?P<what>revision|tree|paths-info)/(?P<revision>[^/]+)(?:/(?P<path>.+))?|/(?P<check>auth-check))?"
)
RESOLVE = re.compile(r"/(?P<repo>[^/]+(?:/[^/]+)?)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class Request(NamedTuple):
    """A request as it came; header names in lower case, the token replaced by its `fingerprint`."""

    method: str
    path: str
    headers: dict[str, str]


class Hub:
    """Serves `repos` (name to folder) on `host` while its `with` block runs.

    `gated` names the one token that has access to a repository; `revoked` tokens are refused everywhere. Who asks for
    a name in `renamed` is sent on to the new one. With `is_mirror` it cannot be asked whether a token has access, only
    for what is behind the gate.
    Without `can_search` a search fails. `others` has names that are not of models, e.g. `{"some/texts": "datasets"}`.
    Settable while it serves: `failing`, the status with which it answers everybody (None: it works); `rate`, in bytes
    per second of all transfers together (None: no limit, 0: they stall); `cut_after`: the next transfer to reach so
    many bytes is hung up on, once; `cut_with_reset`: rudely, by TCP reset.
    """

    def __init__(
        self,
        repos: Mapping[str, Path] | None = None,
        *,
        gated: Mapping[str, str] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.requests: list[Request] = []
        self.gated = dict(gated or {})
        self.revoked: set[str] = set()
        self.renamed: dict[str, str] = {}
        self.failing: int | None = None
        self.is_mirror = False
        self.can_search = True
        self.others: dict[str, str] = {}
        self.cut_after: int | None = None
        self.cut_with_reset = False
        self.bytes_sent = 0
        self._repos: dict[str, Repo] = {}
        self._rate: int | None = None
        self._next_turn = 0.0
        self._state = threading.Condition()
        self._server = _Server((host, port), self)
        for repo, folder in (repos or {}).items():
            self.add(repo, folder)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="hub", daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        with self._state:
            self._server.is_closing = True
            self._state.notify_all()
        self._server.hang_up()
        self._server.server_close()

    @property
    def port(self) -> int:
        return self._server.server_port

    @property
    def url(self) -> str:
        """The value for `HF_ENDPOINT`. From another network namespace: this machine's address there and `port`."""
        host = str(self._server.server_address[0])
        return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{self.port}"

    @property
    def rate(self) -> int | None:
        return self._rate

    @rate.setter
    def rate(self, bytes_per_second: int | None) -> None:
        with self._state:
            self._rate = bytes_per_second
            self._next_turn = 0.0
            self._state.notify_all()

    def add(self, repo: str, folder: Path) -> None:
        """Serve `folder` as `repo`, as it is now; adding it again is a new commit if a file has changed."""
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        self._repos[repo] = Repo({path.relative_to(folder).as_posix(): on_disk(path) for path in paths})

    def add_synthetic(self, repo: str, files: Mapping[str, int | bytes], **about: Any) -> None:
        """Serve made-up files: so many bytes that are nowhere stored, or exactly these.

        `about` are further fields of the Hub's answer, e.g. `pipeline_tag` or `cardData`.
        """
        self._repos[repo] = Repo(
            {
                path: synthetic(f"{repo}/{path}", what) if isinstance(what, int) else in_memory(path, what)
                for path, what in files.items()
            },
            about,
        )

    def commit(self, repo: str) -> str:
        """The hash of the repository's one commit, which names its snapshot folder in the cache."""
        return self._repos[repo].commit

    def content(self, repo: str, path: str) -> bytes:
        """The whole file as it is served."""
        file = self._repos[repo].files[path]
        return file.read(0, file.size)

    def asked(self, method: str, part: str = "") -> list[str]:
        """The paths so far requested with `method` that contain `part`."""
        return [request.path for request in list(self.requests) if request.method == method and part in request.path]

    def check_caller(self, token: str | None) -> None:
        """Refuse everybody while the Hub is down or says so, and who comes with a token that is none."""
        if self.failing == 429:
            limits = {"RateLimit": '"api";r=0;t=55', "RateLimit-Policy": '"fixed window";"api";q=500;w=300'}
            raise Refused(429, "", "You have been rate limited", **limits)
        if self.failing is not None:
            raise Refused(self.failing, "", HTTPStatus(self.failing).phrase)
        if token in self.revoked:
            raise Refused(401, "", "Invalid credentials in Authorization header")

    def repos(self) -> dict[str, Repo]:
        """All repositories by name."""
        return dict(self._repos)

    def find(self, repo: str, revision: str, token: str | None) -> Repo:
        """The repository at that revision, or the refusal this token gets."""
        if repo not in self._repos:
            raise _not_found(token)
        found = self._repos[repo]
        if revision not in {"main", "refs/heads/main", found.commit}:
            raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return found

    def check_gate(self, repo: str, token: str | None) -> None:
        """Refuse the files of a gated repository; like the real Hub, its listing is open to everybody."""
        if repo not in self.gated or token == self.gated[repo]:
            return
        restricted = f"Access to model {repo} is restricted"
        if token is None:
            advice = "You must have access to it and be authenticated to access it. Please log in."
            raise Refused(401, "GatedRepo", f"{restricted}. {advice}")
        visit = f"Visit https://huggingface.co/{repo} to ask for access."
        raise Refused(403, "GatedRepo", f"{restricted} and you are not in the authorized list. {visit}")

    def flow(self, file: File, start: int, stop: int) -> Iterator[bytes]:
        """The bytes of `file` from `start` to `stop` as fast as `rate` lets them, ending early if cut."""
        sent = 0
        while start + sent < stop and not self._is_cut(sent):
            turn = self._next_turn_size()
            with self._state:
                until_cut = turn if self.cut_after is None else max(1, self.cut_after - sent)
            chunk = file.read(start + sent, min(turn, until_cut, stop - start - sent))
            yield chunk
            sent += len(chunk)
            with self._state:
                self.bytes_sent += len(chunk)

    def _is_cut(self, sent: int) -> bool:
        with self._state:
            if self._server.is_closing:
                return True
            if self.cut_after is None or sent < self.cut_after:
                return False
            self.cut_after = None
            return True

    def _next_turn_size(self) -> int:
        """Wait until bytes may flow and return how many: a twentieth of a second's worth when throttled."""
        with self._state:
            self._state.wait_for(lambda: self._rate != 0 or self._server.is_closing)
            if self._rate is None or self._server.is_closing:
                return CHUNK
            size = max(1, min(CHUNK, self._rate // 20))
            turn = self._next_turn = max(self._next_turn, time.monotonic()) + size / self._rate
            self._state.wait_for(lambda: self._next_turn < turn or self._server.is_closing, turn - time.monotonic())
            return size


class _Server(ThreadingHTTPServer):
    """Knows its open connections, to hang up on them all: a stalled transfer must not keep a test waiting."""

    is_closing = False

    def __init__(self, address: tuple[str, int], hub: Hub) -> None:
        self.hub = hub
        self._connections: set[socket.socket] = set()
        super().__init__(address, _Connection)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._connections.add(connection)
        return connection, address

    def close_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().close_request(request)

    def hang_up(self) -> None:
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hang up in the middle: tests kill them on purpose."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        """Be quiet; what was asked is in `Hub.requests`."""

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        if "authorization" in headers:
            headers["authorization"] = fingerprint(self._token or headers["authorization"])
        self.server.hub.requests.append(Request(self.command, self.path, headers))
        url = urlsplit(self.path)
        try:
            self.server.hub.check_caller(self._token)
            if url.path == "/api/models" and not self.server.hub.can_search:
                raise Refused(500, "", "Internal Server Error")
            if url.path == "/api/models":
                self._send_json(200, listed(self.server.hub.repos(), parse_qs(url.query)))
            elif url.path in {f"/api/{kind}/{name}" for name, kind in self.server.hub.others.items()}:
                self._send_json(200, {"id": url.path.split("/", 3)[3]})
            elif asked := API.fullmatch(url.path):
                self._send_json(200, self._describe(asked, parse_qs(url.query), body))
            elif asked := RESOLVE.fullmatch(url.path):
                self._send_file(*(unquote(part) for part in asked.group("repo", "revision", "path")))
            else:
                raise Refused(404, "", "Sorry, we can't find the page you are looking for.")
        except Refused as no:
            code = {"X-Error-Code": no.code} if no.code else {}
            self._send_json(no.status, {"error": str(no)}, **code, **{"X-Error-Message": str(no)}, **no.headers)

    def _describe(self, asked: re.Match[str], query: dict[str, list[str]], body: bytes) -> object:
        name, what, path = unquote(asked["repo"]), asked["what"], unquote(asked["path"] or "")
        repo = self._find(name, unquote(asked["revision"] or "main"))
        if asked["check"]:
            if self.server.hub.is_mirror:
                raise Refused(404, "", "Not Found")
            self.server.hub.check_gate(name, self._token)
            return {}
        if what == "tree":
            is_recursive = query.get("recursive", ["false"])[0].lower() == "true"
            return list(tree(repo, path, is_recursive=is_recursive))
        if what == "paths-info":
            is_json = "json" in self.headers.get("Content-Type", "")
            wanted = json.loads(body)["paths"] if is_json else parse_qs(body.decode()).get("paths", [])
            return [entry(path, repo.files[path]) for path in wanted if path in repo.files]
        return info(name, repo, is_gated=name in self.server.hub.gated, query=query)

    def _find(self, name: str, revision: str) -> Repo:
        hub = self.server.hub
        if new := hub.renamed.get(name):
            raise Refused(307, "", "Temporary Redirect", Location=self.path.replace(name, new, 1))
        return hub.find(name, revision, self._token)

    def _send_file(self, name: str, revision: str, path: str) -> None:
        hub = self.server.hub
        repo = self._find(name, revision)
        hub.check_gate(name, self._token)
        if path not in repo.files:
            raise Refused(404, "EntryNotFound", "Entry not found", **{"X-Repo-Commit": repo.commit})
        file = repo.files[path]
        start, stop = _span(self.headers.get("Range"), file.size)
        self.send_response(206 if self.headers.get("Range") else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(stop - start))
        if self.headers.get("Range"):
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{file.size}")
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("ETag", f'"{file.oid}"')
        self.send_header("X-Linked-ETag", f'"{file.oid}"')
        self.send_header("X-Linked-Size", str(file.size))
        self.send_header("X-Repo-Commit", repo.commit)
        self.end_headers()
        if self.command == "GET":
            self._send_content(file, start, stop)

    def _send_content(self, file: File, start: int, stop: int) -> None:
        sent = 0
        for chunk in self.server.hub.flow(file, start, stop):
            self.wfile.write(chunk)
            sent += len(chunk)
        if sent < stop - start:
            self.close_connection = True
            if self.server.hub.cut_with_reset:
                # Lingering zero seconds turns close() into a reset; the server's own shutdown() would say goodbye.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()

    def _send_json(self, status: int, value: object, **headers: str) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        for name, text in headers.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    @property
    def _token(self) -> str | None:
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        return token if scheme == "Bearer" and token else None


def fingerprint(token: str) -> str:
    """What `Hub.requests` shows in place of a token."""
    return f"sha256:{hashlib.sha256(token.encode()).hexdigest()[:12]}"


def _not_found(token: str | None) -> Refused:
    if token is None:
        # The Hub sends no code here; `hf` takes a 401 for a missing repository by itself, but only on https.
        return Refused(401, "RepoNotFound", "Invalid username or password.")
    return Refused(404, "RepoNotFound", "Repository not found")


def _span(range_header: str | None, size: int) -> tuple[int, int]:
    """Read a `Range` header into start and stop.

    >>> _span("bytes=0-7", 100), _span("bytes=90-", 100), _span("bytes=-5", 100), _span(None, 100)
    ((0, 8), (90, 100), (95, 100), (0, 100))
    """
    found = RANGE.fullmatch(range_header or "bytes=0-")
    if found is None:
        raise Refused(400, "", f"Invalid range: {range_header}")
    first, last = found.groups()
    start = int(first) if first else max(0, size - int(last))
    stop = min(size, int(last) + 1) if first and last else size
    if range_header and start >= size:
        raise Refused(416, "", "Range not satisfiable", **{"Content-Range": f"bytes */{size}"})
    return start, stop


def main() -> None:
    """Serve until Ctrl+C, printing the URL."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.hub", description=__doc__.partition("\n")[0])
    parser.add_argument("repos", nargs="+", metavar="REPO=DIR")
    parser.add_argument("--gated", action="append", default=[], metavar="REPO=TOKEN")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--rate", type=int, metavar="BYTES_PER_SECOND")
    given = parser.parse_args()
    folders = {repo: Path(folder) for repo, _, folder in (pair.partition("=") for pair in given.repos)}
    gated = {repo: token for repo, _, token in (pair.partition("=") for pair in given.gated)}
    with suppress(KeyboardInterrupt), Hub(folders, gated=gated, host=given.host, port=given.port) as hub:
        hub.rate = given.rate
        sys.stdout.write(f"{hub.url}\n")
        sys.stdout.flush()
        threading.Event().wait()


if __name__ == "__main__":
    main()
