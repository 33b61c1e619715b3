"""The client of one model: what it is called in hints, and every way in which a request or an answer can fail."""

import json
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pi_cli.chat.http_client import READ_SECONDS, SERVER, Client, NotConnected, Refused, RequestError, TimedOut
from pi_cli.errors import BadUsage, PiError
from pi_cli.hints import fill

if TYPE_CHECKING:  # takes a tenth of a second to import
    import httpx2

__all__ = ["Client"]

MAX_REASON = 300  # characters of an error message of the server


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model by its served model name, with what hints about it need.

    `pod` is set if commands have to name it because another pod is active; `key_variable` is the environment variable
    with the API key. `is_stalled` asks the pod whether the model takes requests and answers none.
    """

    name: str
    pod: str | None = None
    key_variable: str = "PI_API_KEY"
    is_stalled: Callable[[], Awaitable[bool]] | None = field(default=None, compare=False)

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


class ConnectionLost(PiError):
    """The connection to the model could not be made, or was lost before the answer was complete."""


class RequestFailed(PiError):
    """The server refused this request, or failed at it. `may_pass`: the same request may succeed later."""

    def __init__(self, message: str, *, hint: str | None = None, may_pass: bool = True) -> None:
        super().__init__(message, hint=hint)
        self.may_pass = may_pass


class RouteNotServed(PiError):
    """The server has no such route: it is of another kind, or of another version."""


class TooLong(PiError):
    """The conversation does not fit the model's context."""

    def __init__(self, model: str, message: str) -> None:
        super().__init__(
            f"the conversation is too long for `{model}`: {message}",
            hint="ask about less, start a new conversation, or start the model with a larger `--context`",
        )


class ImpossibleLimit(BadUsage):
    """The model cannot answer with as many tokens as `--max-tokens` allows."""

    def __init__(self, message: str) -> None:
        super().__init__(message, hint="choose a smaller `--max-tokens`, or leave it out")


def warm_up() -> None:
    """Import what an answer needs; a tenth of a second that another thread can spend while SSH connects."""
    import httpx2  # noqa: F401


def open_client(transport: "httpx2.AsyncBaseTransport", *, api_key: str) -> Client:
    """Return a client for `async with`, which closes `transport` at the end."""
    return Client(transport, api_key=api_key)


@contextmanager
def request_errors(model: ServedModel) -> Iterator[None]:
    """Turn every way a request can fail before the answer starts into a `PiError`."""
    try:
        yield
    except Refused as error:
        if error.status_code == 401:
            raise PiError(
                f"`{model.name}` refused the API key (401)",
                hint=f"set {model.key_variable} to the key that the model was started with",
            ) from error
        raise (not_found if error.status_code == 404 else request_failed)(model, error) from error
    except TimedOut as error:
        message = f"`{model.name}` did not answer in time"
        raise RequestFailed(message, hint=model.hint("see its log with `{logs}`")) from error
    except NotConnected as error:
        if reason := too_large(error):
            raise answer_failed(model, reason) from error
        raise ConnectionLost(
            f"`{model.name}` cannot be reached: {connection_failure(error)}", hint="see which models run with `pi list`"
        ) from error
    except RequestError as error:
        raise request_failed(model, error) from error


def not_found(model: ServedModel, error: Refused) -> PiError:
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
    from pi_cli.models import served

    try:
        kind = served.kind_of(served.routes_of(await client.get(SERVER + served.DESCRIPTION)))
    except (RequestError, ValueError, RecursionError):
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


def connection_failure(error: NotConnected) -> str:
    """Return why there was no connection. The forwarded socket always accepts, and closes if the port is not open."""
    import httpx2

    cause = error.__cause__
    if isinstance(cause, httpx2.RemoteProtocolError | httpx2.ReadError):
        return "nothing answers on its port"
    return str(cause or error)


def request_failed(model: ServedModel, error: RequestError) -> PiError:
    message = server_message(error)
    if (asked := _max_tokens_of(error)) is not None and re.search(r"max_(completion_|output_)?tokens", message):
        limit = fill("`{model}` cannot answer with `--max-tokens {asked}`", model=model.name, asked=asked)
        return ImpossibleLimit(f"{limit}: {message}")
    if re.search(r"--enable-auto-tool-choice|--tool-call-parser", message):
        return ToolsNotServed(model.name)
    if re.search(r"context length|max_model_len|(exceed|longer).*model length", message, re.IGNORECASE):
        return TooLong(model.name, message)
    if re.search(r"At most 0 image|not a multimodal model", message):
        return RequestFailed(
            f"`{model.name}` does not read images: {message}",
            hint="ask without `--image`, or ask a vision model",
            may_pass=False,
        )
    return RequestFailed(
        f"the request to `{model.name}` failed: {message}",
        hint=model.hint("see why with `{logs}`"),
        may_pass=getattr(error, "status_code", 500) >= 500,
    )


def _max_tokens_of(error: RequestError) -> int | None:
    """Return the limit on the answer that a request had; None if it had none."""
    try:
        body = json.loads(error.request.content)
        limit = body.get("max_tokens", body.get("max_output_tokens"))
    except (ValueError, AttributeError, RuntimeError, RecursionError):  # its body was not kept
        return None
    return limit if isinstance(limit, int) else None


@contextmanager
def stream_errors(model: ServedModel) -> Iterator[None]:
    """Turn every way an answer can fail while it streams into a `PiError`."""
    import httpx2

    try:
        yield
    except httpx2.TimeoutException as error:
        raise answer_failed(model, f"no data for {READ_SECONDS:.0f} s") from error
    except httpx2.RequestError as error:
        if reason := too_large(error):
            raise answer_failed(model, reason) from error
        raise ConnectionLost(
            f"`{model.name}` stopped answering: the connection was lost", hint=model.hint("see why with `{logs}`")
        ) from error
    except RequestError as error:
        raise answer_failed(model, server_message(error)) from error
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or nested too deeply
        raise answer_failed(model, f"it sent invalid data ({error})") from error


def answer_failed(model: ServedModel, reason: str) -> RequestFailed:
    return RequestFailed(f"`{model.name}` stopped answering: {reason}", hint=model.hint("see why with `{logs}`"))


def server_message(error: RequestError) -> str:
    """Return the server's own error message, on one line."""
    body = error.body
    message = body.get("message") if isinstance(body, dict) else body
    text = " ".join(str(message or error.message).split()).removesuffix(".")
    return text if len(text) <= MAX_REASON else f"{text[:MAX_REASON]}…"
