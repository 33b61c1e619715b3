"""Recipes as the site publishes them, and a small site that serves them.

The documents have the keys and the shape that `scripts/build-recipes-api.mjs` of vllm-project/recipes writes (at
8959cf6); what pi does not read is shortened.
"""

import hashlib
import json
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

TOOLS = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--reasoning-parser", "qwen3")
H200 = {
    "brand": "NVIDIA",
    "generation": "hopper",
    "display_name": "H200",
    "gpu_count": 8,
    "vram_gb": 1128,
    "multi_node": False,
}


def document(
    page: str,
    /,
    *arguments: str,
    updated: str = "2026-11-20",
    gpus: int = 1,
    serves: str | None = None,
    env: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    min_vllm: str = "0.11.0",
    **changes: Any,
) -> dict[str, Any]:
    """Return the document of a recipe whose command has these arguments, by default those for tools."""
    argv = ["vllm", "serve", serves or page, "--tensor-parallel-size", str(gpus), *(arguments or TOOLS)]
    command = {
        "hardware": "h200",
        "strategy": "single_node_tp",
        "variant": "default",
        "node_count": 1,
        "deploy_type": "single_node",
        "env": dict(env or {}),
        "docker_image": "vllm/vllm-openai:latest",
        "command": " ".join(argv),
        "argv": argv,
        "hardware_profile": H200,
        "alternatives": {"multi_node_tp": f"/{page}/strategies/multi_node_tp.json"},
        "by_hardware": {"h200": f"/{page}/hw/h200.json"},
    }
    return {
        "hf_id": page,
        "meta": {
            "title": page.rpartition("/")[2],
            "provider": "Someone",
            "description": "A model for tests",
            "date_added": "2026-04-22",
            "date_updated": updated,
            "tasks": ["text"],
        },
        "recommended_command": command | changes.pop("command", {}),
        "model": {"model_id": page, "min_vllm_version": min_vllm, "base_args": [], "base_env": {}},
        "features": {"tool_calling": {"description": "Tools", "args": list(TOOLS)}},
        "opt_in_features": [],
        "variants": {"default": {"precision": "bf16", "vram_minimum_gb": 65, "description": "BF16"}},
        "hardware_overrides": dict(overrides or {}),
        "guide": "## Overview\n\nText.\n",
    } | changes


class Site(ThreadingHTTPServer):
    """Serves recipes with ETags while its `with` block runs; `answer` may handle a path in another way."""

    daemon_threads = True

    def __init__(self, documents: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(("127.0.0.1", 0), Connection)
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, int]] = []
        self.headers: list[dict[str, str]] = []
        self.answer: Callable[[Connection], bool] = lambda _: False
        self.publish(*documents)

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.shutdown()
        self.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet about clients that close the connection early: tests stop them on purpose."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def publish(self, *documents: Mapping[str, Any]) -> None:
        """Publish these recipes, and no others."""
        index = [
            {
                "hf_id": each["hf_id"],
                "title": each["hf_id"],
                "provider": "Someone",
                "url": f"/{each['hf_id']}",
                "json": f"/{each['hf_id']}.json",
            }
            for each in documents
        ]
        self.files = {f"/{each['hf_id']}.json": json.dumps(each, indent=2).encode() for each in documents}
        self.files["/models.json"] = json.dumps(index, indent=2).encode()


class Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Site

    def do_GET(self) -> None:
        self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        if self.server.answer(self):
            return
        body = self.server.files.get(self.path)
        etag = f'"{hashlib.sha256(body or b"").hexdigest()[:16]}"'
        if body is None:
            self.reply(404, b"not here")
        elif self.headers.get("If-None-Match") == etag:
            self.reply(304, b"", {"ETag": etag})
        else:
            self.reply(200, body, {"ETag": etag})

    def reply(
        self, status: int, body: bytes, headers: Mapping[str, str] | None = None, *, length: int | None = None
    ) -> None:
        """Answer; with `length`, promise that many bytes, and close the connection after those of the body."""
        self.server.asked.append((self.path, status))
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 304:
            self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = length is not None

    def log_message(self, format: str, *args: Any) -> None:
        """Be quiet; what was asked is in `Site.asked`."""
