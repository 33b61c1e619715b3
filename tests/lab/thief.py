"""A process that has taken a model's port: `thief.py PORT FILE` answers as a model does, and keeps what it is sent.

Standard library only: it also runs on bare pods. PORT may be ADDRESS:PORT. With a third argument, another port, it
passes challenges on to that.
"""

import http.server
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

PORT, FILE, *OTHER = sys.argv[1:]


class Thief(http.server.BaseHTTPRequestHandler):
    """Asks for a key, and is pleased with any."""

    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with Path(FILE).open("a", encoding="utf-8") as file:
            file.write(f"{self.requestline}\n{self.headers}{body.decode('utf-8', 'replace')}\n")
        if OTHER and "pi-model" in self.path:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{OTHER[0]}{self.path}", timeout=5) as answer:
                    self.reply(200, answer.read())
            except urllib.error.HTTPError as error:
                self.reply(error.code, error.read())
        elif self.path == "/health":
            self.reply(200, b"")
        elif "Authorization" not in self.headers:
            self.reply(401, b'{"error": "Unauthorized"}')
        else:
            message = {"role": "assistant", "content": "stolen"}
            answers = {"object": "list", "data": [{"id": "q"}], "choices": [{"index": 0, "message": message}]}
            self.reply(200, json.dumps({**answers, "proofs": ["00" * 32]}).encode())

    do_GET = do_POST = answer  # noqa: N815 - names of http.server

    def reply(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


ADDRESS, _, NUMBER = PORT.rpartition(":")
http.server.ThreadingHTTPServer((ADDRESS, int(NUMBER)), Thief).serve_forever()
