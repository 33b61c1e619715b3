"""What browsers ask before they send a request, answered as Starlette's `CORSMiddleware` does in vLLM."""

import json

from pi_cli.demo.engine.web import App, Message, Receive, Send


class Cors:
    """Adds the headers for pages of the allowed origins. Without any, nothing is added."""

    def __init__(self, app: App, origins: str) -> None:
        self._app, self._origins = app, set(json.loads(origins))

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        headers = dict(scope.get("headers", ()))
        origin = headers.get(b"origin")
        if not self._origins or scope["type"] != "http" or origin is None:
            await self._app(scope, receive, send)
            return
        is_allowed = bool({"*", origin.decode("latin-1")} & self._origins)
        allowed = [(b"access-control-allow-origin", b"*" if "*" in self._origins else origin), (b"vary", b"Origin")]
        if scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
            body = b"OK" if is_allowed else b"Disallowed CORS origin"
            more = [
                (b"access-control-allow-methods", b"DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"),
                (b"access-control-allow-headers", headers.get(b"access-control-request-headers", b"")),
                (b"content-length", b"%d" % len(body)),
            ]
            status = 200 if is_allowed else 400
            answer = [*(allowed if is_allowed else []), *more]
            await send({"type": "http.response.start", "status": status, "headers": answer})
            await send({"type": "http.response.body", "body": body})
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start" and is_allowed:
                message = {**message, "headers": [*message.get("headers", []), *allowed]}
            await send(message)

        await self._app(scope, receive, with_headers)
