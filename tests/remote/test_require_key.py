"""`remote/require_key.py`, called as a server calls an ASGI application."""

import asyncio
import hmac
import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from require_key import PROOF_ROUTE, RequireKey, Strangers

from pi_cli.models import identity

KEY = "sk-it's, a key"
HOUR_AGO = int(time.time()) - 3600
BEARER = (b"authorization", b"Bearer " + KEY.encode())


class Application:
    """An application behind the middleware: records the scopes that reach it, and answers 200."""

    def __init__(self) -> None:
        self.reached: list[Any] = []

    async def __call__(self, scope: Any, _receive: object, send: Callable[[Any], Any]) -> None:
        self.reached.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": []})


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", KEY)


@pytest.fixture
def application() -> Application:
    return Application()


def ask(application: Any, path: str = "/v1/models", *headers: tuple[bytes, bytes], **scope: Any) -> Any:
    """Send one request through the middleware and return the messages of the answer."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    request = {"type": "http", "method": "GET", "path": path, "headers": [(b"host", b"pod"), *headers], **scope}
    asyncio.run(RequireKey(application)(request, receive, send))
    return sent


def status(answer: Any) -> int:
    code: int = answer[0]["status"]
    return code


@pytest.mark.parametrize(
    "path", ["/", "/v1/models", "/invocations", "/metrics", "/docs", "/health/", "//health", "/v1/health", "/HEALTH"]
)
def test_without_the_key_no_route_answers(application: Application, path: str) -> None:
    assert status(ask(application, path)) == 401
    assert application.reached == []


def test_health_answers_without_a_key(application: Application) -> None:
    assert status(ask(application, "/health")) == 200
    assert status(ask(application, "/models/q/health", root_path="/models/q")) == 200


@pytest.mark.parametrize(
    "header", [BEARER, (b"authorization", b"bearer  " + KEY.encode()), (b"x-api-key", KEY.encode())]
)
def test_the_key_opens_every_route(application: Application, header: tuple[bytes, bytes]) -> None:
    assert status(ask(application, "/invocations", header)) == 200


@pytest.mark.parametrize(
    "header",
    [
        (b"authorization", KEY.encode()),
        (b"authorization", b"Basic " + KEY.encode()),
        (b"authorization", b"Bearer"),
        (b"authorization", b"Bearer "),
        (b"authorization", b"Bearer sk-it's"),
        (b"authorization", b"Bearer " + KEY.encode() + b"\xff"),
        (b"x-api-key", b""),
        (b"cookie", b"Bearer " + KEY.encode()),
    ],
)
def test_what_is_not_exactly_the_key_opens_nothing(application: Application, header: tuple[bytes, bytes]) -> None:
    assert status(ask(application, "/v1/models", header)) == 401


def test_a_key_beyond_ascii_works(application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "schlüssel")
    assert status(ask(application, "/v1/models", (b"x-api-key", "schlüssel".encode()))) == 200


def test_cors_preflights_need_the_key_too(application: Application) -> None:
    assert status(ask(application, "/v1/models", (b"origin", b"https://a.example"), method="OPTIONS")) == 401


@pytest.mark.parametrize("configured", [None, ""])
def test_without_a_configured_key_everything_is_refused(
    application: Application, monkeypatch: pytest.MonkeyPatch, configured: str | None
) -> None:
    monkeypatch.delenv("VLLM_API_KEY")
    if configured is not None:
        monkeypatch.setenv("VLLM_API_KEY", configured)
    assert status(ask(application, "/v1/models")) == 401
    assert status(ask(application, "/v1/models", (b"authorization", b"Bearer "))) == 401
    assert status(ask(application, "/v1/models", (b"x-api-key", b""))) == 401


def test_a_refusal_is_an_error_that_openais_clients_can_read(application: Application) -> None:
    start, body = ask(application)
    headers = dict(start["headers"])
    assert headers[b"content-type"] == b"application/json"
    assert headers[b"www-authenticate"] == b"Bearer"
    assert int(headers[b"content-length"]) == len(body["body"])
    assert json.loads(body["body"])["error"] == {
        "message": "Incorrect or missing API key: send it as `Authorization: Bearer KEY`.",
        "type": "invalid_request_error",
        "param": None,
        "code": "invalid_api_key",
    }


def test_an_x_api_key_reaches_vllm_as_the_bearer_token_that_it_checks(application: Application) -> None:
    wrong = (b"authorization", b"Bearer other")
    ask(application, "/v1/messages", wrong, (b"x-api-key", KEY.encode()))
    assert application.reached[0]["headers"] == [(b"host", b"pod"), BEARER]


@pytest.mark.parametrize("header", [b"authorization", b"x-api-key"])
def test_other_keys_are_accepted_and_vllm_receives_its_own(
    application: Application, monkeypatch: pytest.MonkeyPatch, header: bytes
) -> None:
    monkeypatch.setenv("PI_OTHER_API_KEYS", "key-of-the-team key-of-alice")
    for key in (b"key-of-the-team", b"key-of-alice"):
        assert status(ask(application, "/v1/models", (header, b"Bearer " * (header[:1] == b"a") + key))) == 200
        assert application.reached[-1]["headers"] == [(b"host", b"pod"), BEARER]
    for key in (b"key-of-the-team key-of-alice", b"key-of", b"", b" "):
        assert status(ask(application, "/v1/models", (header, b"Bearer " * (header[:1] == b"a") + key))) == 401


def test_other_keys_are_not_accepted_without_the_first(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VLLM_API_KEY")
    monkeypatch.setenv("PI_OTHER_API_KEYS", "key-of-the-team")
    assert status(ask(application, "/v1/models", (b"x-api-key", b"key-of-the-team"))) == 401


def test_the_servers_lifespan_events_pass(application: Application) -> None:
    ask(application, type="lifespan")
    assert application.reached[0]["type"] == "lifespan"


def test_a_websocket_without_the_key_is_refused_with_401_if_the_server_supports_it(application: Application) -> None:
    start, body = ask(application, "/v1/realtime", type="websocket", extensions={"websocket.http.response": {}})
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 401)
    assert body["type"] == "websocket.http.response.body"
    assert ask(application, "/v1/realtime", type="websocket") == [{"type": "websocket.close", "code": 1008}]
    assert ask(application, "/health", type="websocket") == [{"type": "websocket.close", "code": 1008}]
    assert application.reached == []


def test_a_websocket_with_the_key_is_passed_on(application: Application) -> None:
    ask(application, "/v1/realtime", BEARER, type="websocket")
    assert application.reached[0]["type"] == "websocket"


def test_the_key_is_not_kept_where_it_could_be_printed(application: Application) -> None:
    assert KEY not in repr(vars(RequireKey(application)))


# The proof that this is the model

UID = "0123456789abcdef"
NONCE = "ab" * 32
PORT = 8001


def proofs(application: Application, query: str, root_path: str = "") -> list[str]:
    scope: Any = {"query_string": query.encode(), "server": ("127.0.0.1", PORT), "root_path": root_path}
    answer = ask(application, root_path + PROOF_ROUTE, **scope)
    assert application.reached == []
    if status(answer) != 200:
        assert status(answer) == 401
        return []
    found: list[str] = json.loads(answer[1]["body"])["proofs"]
    return found


def proof(key: str, uid: str = UID, port: int = PORT) -> str:
    proof_key = identity.proof_key(key, uid)
    return hmac.new(proof_key, f"{NONCE} {port}".encode(), "sha256").hexdigest()


def test_the_model_proves_itself_without_a_key(application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PI_MODEL_UID", UID)
    assert proofs(application, f"nonce={NONCE}") == [proof(KEY)]
    assert proofs(application, f"nonce={NONCE}", root_path="/x") == [proof(KEY)]


def test_it_proves_itself_for_each_of_its_keys(application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PI_MODEL_UID", UID)
    monkeypatch.setenv("PI_OTHER_API_KEYS", "alice-key bob-key")
    assert proofs(application, f"nonce={NONCE}") == [proof(KEY), proof("alice-key"), proof("bob-key")]


def test_another_launch_or_port_or_key_has_other_proofs() -> None:
    assert len({proof(KEY), proof(KEY, uid="f" * 16), proof(KEY, port=8002), proof("other")}) == 4


@pytest.mark.parametrize("query", ["", "nonce=", "nonce=ab", "nonce=" + "AB" * 32, "nonce=" + "ab" * 65, "x=1"])
def test_a_challenge_that_is_not_a_nonce_is_refused(
    application: Application, monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    monkeypatch.setenv("PI_MODEL_UID", UID)
    assert proofs(application, query) == []


def test_a_launch_without_a_uid_or_a_key_proves_nothing(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert proofs(application, f"nonce={NONCE}") == []
    monkeypatch.setenv("PI_MODEL_UID", UID)
    monkeypatch.setenv("VLLM_API_KEY", "")
    assert proofs(application, f"nonce={NONCE}") == []


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The record of the model in `~/.pi/models`, written an hour ago."""
    record = tmp_path / "models" / "0123abc.json"
    record.parent.mkdir()
    record.write_text("{}")
    os.utime(record, (HOUR_AGO, HOUR_AGO))
    monkeypatch.setattr("require_key.__file__", str(tmp_path / "lib" / "require_key.py"))
    monkeypatch.setenv("PI_MODEL_UID", "0123abc")
    return record


def test_a_use_sets_the_time_of_the_record(application: Application, record: Path) -> None:
    assert status(ask(application, "/v1/chat/completions", BEARER, method="POST")) == 200
    assert record.stat().st_mtime > HOUR_AGO + 3000
    assert record.read_text() == "{}"


def test_readers_and_strangers_do_not_count_as_a_use(application: Application, record: Path) -> None:
    assert status(ask(application, "/metrics", BEARER)) == 200
    assert status(ask(application, "/v1/chat/completions", method="POST")) == 401
    assert status(ask(application, "/health", method="POST")) == 200
    assert record.stat().st_mtime == HOUR_AGO


def test_uses_are_noted_once_a_minute(application: Application, record: Path) -> None:
    times: list[float] = []

    async def use_twice() -> None:
        guard, scope = RequireKey(application), {"type": "websocket", "path": "/v1/realtime", "headers": [BEARER]}
        await guard(scope, None, application_answers)  # type: ignore[arg-type]
        await asyncio.get_running_loop().shutdown_default_executor()
        times.append(record.stat().st_mtime)  # noqa: ASYNC240 - nothing else runs here
        os.utime(record, (HOUR_AGO, HOUR_AGO))
        await guard(scope, None, application_answers)  # type: ignore[arg-type]

    async def application_answers(_: object) -> None:
        pass

    asyncio.run(use_twice())
    assert times[0] > HOUR_AGO + 3000
    assert record.stat().st_mtime == HOUR_AGO


def test_without_a_record_requests_are_answered_and_no_file_is_made(application: Application, record: Path) -> None:
    record.unlink()
    assert status(ask(application, "/v1/chat/completions", BEARER, method="POST")) == 200
    assert list(record.parent.iterdir()) == []


PREFLIGHT = ((b"origin", b"http://localhost:3000"), (b"access-control-request-method", b"POST"))


@pytest.mark.parametrize("headers", [PREFLIGHT, PREFLIGHT[:1], PREFLIGHT[1:], ()], ids=range(4))
@pytest.mark.parametrize("origins", ["", "http://localhost:3000 https://a.example"], ids=["none", "two"])
def test_preflights_pass_only_where_browsers_were_asked_for(
    application: Application, monkeypatch: pytest.MonkeyPatch, headers: tuple[tuple[bytes, bytes], ...], origins: str
) -> None:
    monkeypatch.setenv("PI_ALLOWED_ORIGINS", origins)
    passes = bool(origins) and headers == PREFLIGHT
    assert status(ask(application, "/v1/chat/completions", *headers, method="OPTIONS")) == (200 if passes else 401)
    assert len(application.reached) == passes
    for method in ("GET", "POST", "DELETE", "options"):
        assert status(ask(application, "/v1/chat/completions", *headers, method=method)) == 401


@pytest.mark.parametrize(
    ("origins", "origin", "is_shown"),
    [
        ("http://localhost:3000", b"http://localhost:3000", True),
        ("*", b"http://any.example", True),
        ("http://localhost:3000", b"http://other.example", False),
        ("", b"http://localhost:3000", False),
    ],
)
def test_a_browser_shows_a_refusal_to_pages_of_an_allowed_origin(
    application: Application, monkeypatch: pytest.MonkeyPatch, origins: str, origin: bytes, is_shown: bool
) -> None:
    monkeypatch.setenv("PI_ALLOWED_ORIGINS", origins)
    [start, _] = ask(application, "/v1/models", (b"origin", origin))
    assert dict(start["headers"]).get(b"access-control-allow-origin") == (origin if is_shown else None)


async def silent(guard: RequireKey, *headers: tuple[bytes, bytes]) -> Any:
    """Ask a guard for how long no request was answered; the status if it refuses."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": PROOF_ROUTE, "query_string": b"requests", "headers": [*headers]}
    await guard(scope, None, send)  # type: ignore[arg-type]
    return json.loads(sent[1]["body"])["silent"] if sent[0]["status"] == 200 else sent[0]["status"]


def test_it_tells_for_how_long_no_request_was_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("require_key.time.monotonic", lambda: now)
    seen: list[Any] = []

    async def application(scope: Any, _: object, send: Callable[[Any], Any]) -> None:
        nonlocal now
        now += 20
        seen.append(await silent(guard, BEARER))
        await send({"type": "http.response.start", "status": int(scope["query_string"] or 200), "headers": []})
        await send({"type": "http.response.body", "body": b"data"})
        now += 5
        seen.append(await silent(guard, BEARER))

    async def send(message: Any) -> None:
        del message

    guard = RequireKey(application)
    assert asyncio.run(silent(guard)) == 401
    assert asyncio.run(silent(guard, BEARER)) is None
    scope = {"type": "http", "method": "POST", "path": "/v1/completions", "query_string": b"", "headers": [BEARER]}

    async def request(**more: Any) -> list[Any]:
        seen.clear()
        await guard({**scope, **more}, None, send)  # type: ignore[arg-type]
        return list(seen)

    assert asyncio.run(request()) == [20, 5]
    assert asyncio.run(request(query_string=b"400")) == [20, 25]  # a refusal is not the engine's answer
    assert asyncio.run(request(method="GET")) == [None, None]


def test_it_reports_what_the_server_serves_to_those_with_a_key(application: Application) -> None:
    paths = ["/v1/models", "/v1/completions", "/v1/completions"]  # one for each method
    app = SimpleNamespace(routes=[*(SimpleNamespace(path=path) for path in paths), object()])
    asked = partial(ask, application, PROOF_ROUTE, query_string=b"routes", app=app)
    assert json.loads(asked(BEARER)[1]["body"]) == {"routes": ["/v1/completions", "/v1/models"]}
    assert status(asked()) == 401
    unknown = ask(application, PROOF_ROUTE, BEARER, query_string=b"routes")
    assert json.loads(unknown[1]["body"]) == {"routes": []}


async def nothing(*_: Any) -> Any:
    return None


class Connection(asyncio.Protocol):
    """A connection of a server, with the names of uvicorn's: each line is a request, whose key is the line."""

    guard: RequireKey
    transport: asyncio.Transport
    is_wrapped = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        del error

    def data_received(self, data: bytes) -> None:
        headers = [(b"authorization", b"Bearer " + data.strip())]
        scope = {"type": "http", "method": "GET", "path": "/", "headers": headers}
        scope["client"] = self.transport.get_extra_info("peername")[:2]
        if data.endswith(b"\n"):
            self.task = asyncio.create_task(
                self.guard(scope, self.wrapped if self.is_wrapped else self.receive, self.send)
            )

    async def receive(self) -> Any:
        return {"type": "http.request"}

    async def send(self, message: Any) -> None:
        if "status" in message:
            self.transport.write(b"%d\n" % message["status"])

    @property
    def wrapped(self) -> Any:
        """What a middleware between the server and the guard passes on."""

        async def receive() -> Any:
            return await self.receive()

        return receive


@pytest.mark.parametrize("is_wrapped", [False, True], ids=["direct", "wrapped"])
def test_connections_without_a_key_are_few_and_do_not_stay(
    application: Application, monkeypatch: pytest.MonkeyPatch, is_wrapped: bool
) -> None:
    """As uvicorn's classes; tried with uvicorn 0.54 itself, and both of its parsers."""
    [(module, name), _] = Strangers.PROTOCOLS

    class Patched(Connection):
        pass

    protocol = Patched
    protocol.is_wrapped = is_wrapped
    monkeypatch.setitem(sys.modules, module, cast("Any", SimpleNamespace(**{name: protocol})))
    monkeypatch.setattr(Strangers, "MOST", 5)
    monkeypatch.setattr(Strangers, "SECONDS", 0.3)

    async def serve() -> None:
        protocol.guard = RequireKey(application)
        await protocol.guard({"type": "lifespan"}, nothing, nothing)
        server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        connect = partial(asyncio.open_connection, "127.0.0.1", port)
        user, writer = await connect()
        for _ in range(2):
            writer.write(KEY.encode() + b"\n")
            assert await user.readline() == b"200\n"
        strangers = [await connect() for _ in range(9)]
        strangers[-1][1].write(b"wrong\n")
        assert await strangers[-1][0].readline() == b"401\n"
        assert [await each.read() for each, _ in strangers[:4]] == [b""] * 4  # at once: there are too many
        assert not any(each.at_eof() for each, _ in strangers[4:])
        writer.write(KEY.encode() + b"\n")
        assert await user.readline() == b"200\n"
        async with asyncio.timeout(10):
            assert [await each.read() for each, _ in strangers[4:]] == [b""] * 5  # in time
        writer.write(KEY.encode() + b"\n")
        assert await user.readline() == b"200\n"
        for _, each in [(user, writer), *strangers]:
            each.close()
        server.close()

    asyncio.run(serve())


class Server:
    """What answers a look behind the middleware: `metrics` None is an answer that does not come."""

    def __init__(self, health: int = 200, metrics: bytes | None = b"vllm:num_requests_running 1\n") -> None:
        self.health, self.metrics = health, metrics
        self.reached: list[Any] = []

    async def __call__(self, scope: Any, receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
        self.reached.append(scope)
        assert (await receive())["type"] == "http.request"
        is_health = scope["path"].endswith("/health")
        if not is_health and self.metrics is None:
            await asyncio.Event().wait()
        body = b"{}" if is_health else self.metrics
        await send({"type": "http.response.start", "status": self.health if is_health else 200, "headers": []})
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body"})


def look(server: Server, *headers: tuple[bytes, bytes], root: str = "") -> Any:
    return ask(server, root + PROOF_ROUTE, *headers, query_string=b"look", root_path=root)


@pytest.mark.parametrize("root", ["", "/models"])
@pytest.mark.parametrize("health", [200, 503])
def test_one_question_reports_all_that_a_look_needs(health: int, root: str) -> None:
    start, body = look(server := Server(health), BEARER, root=root)
    assert start["status"] == 200
    assert dict(start["headers"])[b"content-length"] == str(len(body["body"])).encode()
    head, _, metrics = body["body"].partition(b"\n")
    assert json.loads(head) == {"health": health, "silent": None}
    assert metrics == server.metrics
    assert [scope["path"] for scope in server.reached] == [root + "/health", root + "/metrics"]
    assert all(scope["query_string"] == b"" and BEARER in scope["headers"] for scope in server.reached)


def test_metrics_that_do_not_come_do_not_delay_the_health(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("require_key.METRICS_TIMEOUT", 0.01)
    _, body = look(Server(metrics=None), BEARER)
    assert body["body"] == b'{"health": 200, "silent": null}\n'


def test_without_the_key_a_look_is_refused() -> None:
    server = Server()
    for headers in ((), ((b"authorization", b"Bearer other"),)):
        assert status(look(server, *headers)) == 401
    assert server.reached == []
