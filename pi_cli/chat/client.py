"""The OpenAI client, configured to talk to one pod and to use nothing from the user's OpenAI account."""

import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pi_cli.errors import PiError
from pi_cli.hints import fill

if TYPE_CHECKING:  # takes more than half a second to import
    import httpx2
    import openai

    Client = openai.AsyncOpenAI

# Never resolved: the transport is connected to the pod already.
SERVER = "http://pod"
BASE_URL = f"{SERVER}/v1"
CONNECT_SECONDS = 10.0
# A long prompt on a busy machine takes minutes before its first token.
READ_SECONDS = 600.0
MAX_RETRIES = 2
MAX_REASON = 300  # characters of an error message of the server

# Everything that leaves this machine besides the conversation. The SDK would add a description of this machine, and
# from OPENAI_ORG_ID, OPENAI_PROJECT_ID and OPENAI_CUSTOM_HEADERS what belongs to the user's OpenAI account.
ALLOWED_HEADERS = frozenset({
    "accept", "accept-encoding", "authorization", "connection", "content-length", "content-type", "host",
    "transfer-encoding", "user-agent",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model by its served model name, with what hints about it need.

    `pod` is set if commands have to name it because another pod is active; `key_variable` is the environment variable
    with the API key.
    """

    name: str
    pod: str | None = None
    key_variable: str = "PI_API_KEY"

    def hint(self, template: str) -> str:
        """Fill the command that shows the model's log into `{logs}`."""
        return fill(template, logs=self._command("logs"))

    def forward(self, template: str, route: str) -> str:
        """Fill the command that opens a local port for other clients into `{forward}`, and a route into `{route}`."""
        return fill(template, forward=self._command("forward"), route=route)

    def _command(self, command: str) -> list[str]:
        return ["pi", command, self.name, *(["--pod", self.pod] if self.pod else [])]


class ToolsNotServed(PiError):
    """The model was started without a tool-call parser: the server rejects requests with tools."""

    def __init__(self, model: str) -> None:
        super().__init__(f"`{model}` was started without a tool-call parser", hint="ask without tools: `--no-tools`")


class RouteNotServed(PiError):
    """The server has no such route: it is of another kind, or of another version."""


class TooLong(PiError):
    """The conversation does not fit the model's context."""

    def __init__(self, model: str, message: str) -> None:
        super().__init__(
            f"the conversation is too long for `{model}`: {message}",
            hint="ask about less, start a new conversation, or start the model with a larger `--context`",
        )


def warm_up() -> None:
    """Import what an answer needs; a third of a second that another thread can spend while SSH connects.

    The garbage collector is off in the meantime: half a million new objects contain no garbage, and the import takes
    361 ms instead of 388.
    """
    gc.disable()
    try:
        import openai  # noqa: F401
    finally:
        gc.enable()


def open_client(transport: "httpx2.AsyncBaseTransport", *, api_key: str) -> "openai.AsyncOpenAI":
    """Return a client for `async with`, which closes `transport` at the end."""
    import openai

    async def keep_allowed_headers(request: "httpx2.Request") -> None:
        for name in set(request.headers) - ALLOWED_HEADERS:
            del request.headers[name]
        request.headers["authorization"] = f"Bearer {api_key}"

    http = openai.DefaultAsyncHttpxClient(
        transport=transport,
        trust_env=False,
        follow_redirects=False,
        event_hooks={"request": [keep_allowed_headers]},
    )
    return openai.AsyncOpenAI(
        api_key=api_key,
        base_url=BASE_URL,
        http_client=http,
        timeout=openai.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
        max_retries=MAX_RETRIES,
    )


@contextmanager
def request_errors(model: ServedModel) -> Iterator[None]:
    """Turn every way a request can fail before the answer starts into a `PiError`."""
    import openai

    try:
        yield
    except openai.AuthenticationError as error:
        raise PiError(
            f"`{model.name}` refused the API key (401)",
            hint=f"set {model.key_variable} to the key that the model was started with",
        ) from error
    except openai.NotFoundError as error:
        raise not_found(model, error) from error
    except openai.APITimeoutError as error:
        raise PiError(f"`{model.name}` did not answer in time", hint=model.hint("see its log with `{logs}`")) from error
    except openai.APIConnectionError as error:
        if reason := too_large(error):
            raise answer_failed(model, reason) from error
        raise PiError(
            f"`{model.name}` cannot be reached: {connection_failure(error)}", hint="see which models run with `pi list`"
        ) from error
    except openai.APIError as error:
        raise request_failed(model, error) from error


def not_found(model: ServedModel, error: "openai.NotFoundError") -> PiError:
    """Distinguish an unknown route from an unknown model."""
    if isinstance(error.body, dict) and "detail" in error.body:
        path = error.request.url.path
        hint = "leave out `--api`" if path.endswith("/responses") else model.hint("see what it serves with `{logs}`")
        return RouteNotServed(f"`{model.name}` does not serve {path}", hint=hint)
    return PiError(
        f"the server has no model `{model.name}`: {server_message(error)}", hint="see which models run with `pi list`"
    )


async def explain(client: "Client", model: ServedModel, error: RouteNotServed) -> PiError:
    """Return the error for a missing route; if the server says so, that the model is for other requests."""
    import openai

    from pi_cli.models import served

    try:
        kind = served.kind_of(served.routes_of(await client.get(SERVER + served.DESCRIPTION, cast_to=object)))
    except (openai.APIError, ValueError, RecursionError):
        return error
    if kind in (None, "generation"):
        return error
    what, route = served.NAMES[kind]
    return PiError(
        f"`{model.name}` is {what}: it does not answer prompts",
        hint=model.forward("open a local port for its clients with `{forward}`; they send requests to {route}", route),
    )


def too_large(error: BaseException | None) -> str | None:
    """Return what the server sent too much of, if that is the cause of an error."""
    from pi_cli.models.plain_http import AnswerTooLarge

    while error and not isinstance(error, AnswerTooLarge):
        error = error.__cause__
    return str(error) if error else None


def connection_failure(error: "openai.APIConnectionError") -> str:
    """Return why there was no connection. The forwarded socket always accepts, and closes if the port is not open."""
    import httpx2

    cause = error.__cause__
    if isinstance(cause, httpx2.RemoteProtocolError | httpx2.ReadError):
        return "nothing answers on its port"
    return str(cause or error)


def request_failed(model: ServedModel, error: "openai.APIError") -> PiError:
    message = server_message(error)
    if re.search(r"--enable-auto-tool-choice|--tool-call-parser", message):
        return ToolsNotServed(model.name)
    if re.search(r"context length|max_model_len|(exceed|longer).*model length", message, re.IGNORECASE):
        return TooLong(model.name, message)
    return PiError(f"the request to `{model.name}` failed: {message}", hint=model.hint("see why with `{logs}`"))


@contextmanager
def stream_errors(model: ServedModel) -> Iterator[None]:
    """Turn every way an answer can fail while it streams into a `PiError`."""
    import httpx2  # openai 3.0 passes its errors through; later versions wrap them
    import openai

    try:
        yield
    except (openai.APITimeoutError, httpx2.TimeoutException) as error:
        raise answer_failed(model, f"no data for {READ_SECONDS:.0f} s") from error
    except (openai.APIConnectionError, httpx2.RequestError) as error:
        reason = too_large(error) or "the connection was lost"
        raise answer_failed(model, reason) from error
    except openai.APIError as error:
        raise answer_failed(model, server_message(error)) from error
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or nested too deeply
        raise answer_failed(model, f"it sent invalid data ({error})") from error


def answer_failed(model: ServedModel, reason: str) -> PiError:
    return PiError(f"`{model.name}` stopped answering: {reason}", hint=model.hint("see why with `{logs}`"))


def server_message(error: "openai.APIError") -> str:
    """Return the server's own error message, on one line."""
    body = error.body
    message = body.get("message") if isinstance(body, dict) else body
    text = " ".join(str(message or error.message).split()).removesuffix(".")
    return text if len(text) <= MAX_REASON else f"{text[:MAX_REASON]}…"
